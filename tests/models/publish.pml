/* SPDX-License-Identifier: Apache-2.0
 *
 * From the outbox to Kafka: the protocol of docs/guarantees.md, with exactly_once.
 *
 * A replica (one_term() of publish_pipe.c) takes both locks, sets the fence, proves the locks, reads the receipts, finishes what Kafka
 * has and PostgreSQL has not, and publishes: two lanes take turns, each with a session of its own. The comments name the functions.
 * Each request and each statement is one step. COMMIT and EndTxn are on their way in between, and may arrive after their sender
 * has given up or died. A frozen replica is one that takes no step.
 *
 * Left out:
 * - Locks are taken both at a time: one alone keeps others from owning the outbox, and is given back.
 * - Produce requests are answered at once. EndTxn is sent after all answers; without it a record is never visible.
 * - Messages of an old epoch are dropped when the epoch is raised: the broker refuses them without effect.
 * - Batches that join a transaction: it is one batch that is larger.
 * - Look-ups of holes while the other lane's batch is in Kafka (run `late`), and holes in the other runs: there a lane takes whatever
 *   the term has not read yet, which is what holes are for.
 * - Rows that are refused, parked or held; generations, timelines, and receipts that were compacted or wiped.
 * - Progress: what still waits is seen only where no step is possible any more. Terms that end and begin again for ever are not found.
 *
 * crash, small: two replicas. failover, late: one, since what another one may still have on its way is in the first two. failover: a
 * standby is promoted that is synchronous or lags; event 1 is prepared, event 3 may get event 2's number. late: see its Writer.
 * torn: a connection is closed with EndTxn on its way, whatever the broker: docs/guarantees.md, "Torn transactions".
 *
 *    run crash -DEVENTS=3 -DFAULTS=2
 *    without RECEIPTS in crash finds doubled
 *    without KAFKA_FIRST in crash finds lost
 *    without OWN_TOMBSTONE in crash finds doubled
 *
 *    run small -DEVENTS=2 -DFAULTS=1
 *    without FENCING in small finds nothing
 *    without OPEN_WAIT in small finds nothing
 *    without FENCING+OPEN_WAIT in small finds doubled
 *    without NUMBER_CHAIN in small finds nothing
 *    without COMMIT_AWAITED in small finds nothing
 *    without NUMBER_CHAIN+COMMIT_AWAITED in small finds doubled
 *    without LOCKS in small finds nothing
 *    without SECOND_LOCK in small finds nothing
 *    without LOCKS+FENCING in small finds doubled
 *    without PROOF in small finds nothing
 *
 *    run failover -DFAILOVER -DFAULTS=2
 *    without RECEIPTS in failover finds doubled
 *    without PREPARED_WAIT in failover finds doubled
 *    without PREPARED_FIRST in failover finds doubled
 *    without HASH in failover finds lost
 *
 *    run late -DLATE -DFAULTS=1
 *    without NEW_FIRST in late finds disorder
 *    without LISTING in late finds disorder
 *    without LAST_LOOK in late finds disorder
 *    without HOLES in late finds disorder
 *    without SWEEP in late finds lost
 *    without HOLES+SWEEP in late finds lost
 *
 *    run torn -DTORN -DEVENTS=2 -DFAULTS=2
 *    without SUSPICION in torn finds doubled
 *    without MARK_SUSPICION in torn finds doubled
 */

#define ENTRIES 5
#define bit(n)  (1 << (n))
#define mine(l) (2 * r + (l))
#define FAULT   faults > 0 -> faults--

#ifdef WITHOUT_NUMBER_CHAIN
#define follows true
#else
#define follows (number == last)
#endif

/* Events of one aggregate, in the order in which they were written. */
#ifdef LATE
#define AGGREGATE (bit(1) | bit(3))
#else
#ifdef FAILOVER
#define AGGREGATE (bit(2) | bit(3))
#else
#define AGGREGATE 255
#endif
#endif

byte faults = FAULTS;

/* Rows that another session's open transaction has deleted: a statement that wants them waits. */
#define free(l, x) ((((mine(l) == 0 -> 0 : session[0].taken) | (mine(l) == 1 -> 0 : session[1].taken) | \
    (mine(l) == 2 -> 0 : session[2].taken) | (mine(l) == 3 -> 0 : session[3].taken)) & rows & (x)) == 0)
/* Its number, likewise: the unique index. */
#define no_other(l, n) (!(mine(l) != 0 && session[0].number == (n)) && !(mine(l) != 1 && session[1].number == (n)) && \
    !(mine(l) != 2 && session[2].number == (n)) && !(mine(l) != 3 && session[3].number == (n)))

/* --- PostgreSQL --- */
byte rows;           /* in the table: a bit for an event */
byte written;        /* all that their writers have committed */
byte number;         /* the last batch number */
byte prepared;       /* events of prepared transactions */
byte inserting;           /* events of transactions that hold the lock of an INSERT */
#ifdef FAILOVER
bool copied, failed; /* the standby has got as far as it will; it is the primary */
byte copied_rows, copied_written, copied_number, copied_prepared;
bool reused;         /* event 3 has the number that event 2 had on the old primary */
#endif

typedef Session {    /* as the server knows it; it holds the lock of its lane as long as it is alive */
    bool alive;
    bool orphan;     /* closed by its client, which the server does not know yet */
    byte taken;      /* rows that its transaction has deleted */
    byte number;     /* and the number that it has written; 0: none */
    bool commit;     /* COMMIT is on its way to the server */
    bool committed;  /* and this is the answer */
};
Session session[4];  /* of a replica two, for its two lanes */

/* --- Kafka --- */
typedef Entry {      /* what one transaction has written: events and receipt; the log is without gaps */
    bool used;
    bool who;        /* which replica's producer */
    byte events;
    byte listed;     /* the receipt's rows, */
    byte number;     /* and number; 0: not written yet */
    bool visible;    /* committed, with markers */
};
Entry entry[ENTRIES];
bool valid[2];       /* the replica's producer has the newest epoch of its transactional.id */
bool request[2];     /* its EndTxn (commit) is on its way */
bool decided[2];     /* its transaction is to be committed, markers are yet to be written */
bool answer[2];      /* to EndTxn */
#ifdef TORN
bool late[2];        /* a second copy of it, whose connection was closed, is still on its way */
#endif

byte published;      /* what a consumer of committed records has seen */
bool serving[2];

/* Removes what is open of `whose`: aborted. */
inline abort_open(whose) {
    k = 0; j = 0;
    do
    :: k < ENTRIES ->
        if
        :: entry[k].used && (entry[k].who != whose || entry[k].visible) ->
            if
            :: j != k ->
                entry[j].used = 1; entry[j].who = entry[k].who; entry[j].events = entry[k].events;
                entry[j].listed = entry[k].listed; entry[j].number = entry[k].number; entry[j].visible = entry[k].visible
            :: else
            fi;
            j++
        :: else
        fi;
        k++
    :: else -> break
    od;
    do
    :: j < ENTRIES ->
        entry[j].used = 0; entry[j].who = 0; entry[j].events = 0; entry[j].listed = 0; entry[j].number = 0;
        entry[j].visible = 0; j++
    :: else -> break
    od;
    k = 0; j = 0
}

/* k: the open entry of `whose`, or the first free one. */
inline find_open(whose) {
    k = 0;
    do
    :: entry[k].used && (entry[k].who != whose || entry[k].visible) -> k++
    :: else -> break
    od
}

/* Whether the former, which stand first, have an event of the aggregate that comes after one of the latter. */
#define lowest(x) ((x) & -(x))
#define overtakes(x, y) (((y) & AGGREGATE) && ((x) & AGGREGATE) > lowest((y) & AGGREGATE))

/* What is open of `whose` becomes visible, at the place where it was written. */
inline show_open(whose) {
    find_open(whose);
    entry[k].visible = 1;
    doubled = (published & entry[k].events) != 0;
    assert(!doubled);
    published = published | entry[k].events;
    disorder = 0; j = 0;
    do
    :: j < ENTRIES && entry[j].used ->
        if
        :: j < k && entry[j].visible -> disorder = disorder || overtakes(entry[j].events, entry[k].events)
        :: j > k && entry[j].visible -> disorder = disorder || overtakes(entry[k].events, entry[j].events)
        :: else
        fi;
        j++
    :: else -> break
    od;
    assert(!disorder);
    k = 0; j = 0
}

inline end_session(s) {
    session[s].alive = 0; session[s].orphan = 0; session[s].taken = 0;
    session[s].number = 0; session[s].commit = 0; session[s].committed = 0;
    printf("PostgreSQL: session %d has ended\n", s)
}

/* publish_committed() of the other lane */
#define committed_other d_step { \
        awaits && session[mine(1 - lane)].committed -> session[mine(1 - lane)].committed = 0; awaits = 0 }

#define below(n) (bit(n) - 1)

/* take_new() of publish_take.c: the rows above the watermark, in one statement; seq_holes_saw() */
#define take_new if \
    :: d_step { session[mine(lane)].alive -> found = rows & ~below(watermark); \
        session[mine(lane)].taken = session[mine(lane)].taken | found; \
        do \
        :: found & ~below(watermark) -> holes = holes | (bit(watermark) & ~found); watermark++ \
        :: else -> break \
        od; \
        found = 0; printf("replica %d: takes new rows: %d\n", r, session[mine(lane)].taken) } \
    :: atomic { !session[mine(lane)].alive -> goto closed } \
    fi

/* publish_take_holders(), take_holes(): a listing now and then, seq_holes_ask(), one statement, seq_holes_looked_up() */
#ifdef WITHOUT_HOLES
#define look_up holes = 0
#else
#define look_up if \
    :: d_step { list_holders(); printf("replica %d: lists who may fill holes %d\n", r, holes) } \
    :: skip \
    fi; \
    last_asked = forgotten; \
    if \
    :: d_step { session[mine(lane)].alive && free(lane, looked_up) -> found = rows & looked_up; \
        session[mine(lane)].taken = session[mine(lane)].taken | found; \
        holes = holes & ~found & ~last_asked; listed = listed & holes; over = over & holes; last_asked = 0; \
        printf("replica %d: takes rows of holes: %d, holes left: %d\n", r, found, holes); found = 0 } \
    :: atomic { !session[mine(lane)].alive -> goto closed } \
    fi
#endif
#ifdef WITHOUT_LISTING
#define forgotten holes
#else
#define forgotten (holes & over)
#endif
#ifdef WITHOUT_LAST_LOOK
#define looked_up (holes & ~over)
#else
#define looked_up holes
#endif

/* k: the receipt of this number. */
inline find_receipt(n) {
    k = 0;
    do
    :: entry[k].visible && entry[k].number == n -> break
    :: else -> k++
    od
}

/* outbox_sql_prepared(); once in each batch */
#define ask_prepared if \
        :: d_step { session[mine(0)].alive -> asked = (prepared != 0) } \
        :: atomic { !session[mine(0)].alive -> goto closed } \
        fi

/* The rows that a receipt means: agree() compares hashes, and tells an event from another one of its number. */
#if defined(WITHOUT_HASH)
#define named(x) ((x) | (((x) & bit(2)) && reused -> bit(3) : 0))
#else
#define named(x) (x)
#endif

/* The holes that a listing of the lock's holders covers: seq_holes_listed(). */
inline list_holders() {
    j = 0;
    do
    :: j < 3 ->
        if
        :: (holes & bit(j)) && !(listed & bit(j)) -> listed = listed | bit(j); may_fill[j] = inserting
        :: (holes & bit(j)) && (listed & bit(j)) -> may_fill[j] = may_fill[j] & inserting
        :: else -> may_fill[j] = 0
        fi;
        over = ((holes & listed & bit(j)) && !may_fill[j] -> over | bit(j) : over);
        j++
    :: else -> break
    od;
    j = 0
}

proctype Replica(bit r) {
    byte last, ahead;
    byte seen; /* up to the watermark */
    byte k, j; /* scratch */
    bool not_there, asked;
#ifdef LATE
    byte watermark; /* the number behind the last one that was read */
    byte holes, listed, over, last_asked, may_fill[3]; /* struct seq_holes */
    byte found;
#endif
#ifdef TORN
    bool cut; /* kafka_producer_suspicious() */
#endif
    bit lane;
    bool awaits; /* COMMIT of the other lane */

closed: /* outbox_owner_finish(), also by a crash */
    skip;
    d_step {
        last = 0; ahead = 0; seen = 0; lane = 0; awaits = 0; answer[r] = 0;
        not_there = 0; asked = 0;
#ifdef LATE
        watermark = 0; holes = 0; listed = 0; over = 0; last_asked = 0; found = 0;
        may_fill[0] = 0; may_fill[1] = 0; may_fill[2] = 0;
#endif
#ifdef TORN
        cut = 0;
#endif
        serving[r] = 0;
        session[mine(0)].orphan = session[mine(0)].alive;
        session[mine(1)].orphan = session[mine(1)].alive;
        printf("replica %d: has no sessions\n", r)
    }

end_standby: /* outbox_owner_try(): both locks, or none is kept */
    atomic {
#ifdef WITHOUT_LOCKS
        !session[mine(0)].alive && !session[mine(1)].alive ->
#else
#ifdef WITHOUT_SECOND_LOCK
        !session[0].alive && !session[2].alive && !session[mine(1)].alive ->
#else
        !session[0].alive && !session[1].alive && !session[2].alive && !session[3].alive ->
#endif
#endif
        session[mine(0)].alive = 1; session[mine(1)].alive = 1;
        printf("replica %d: holds both locks\n", r)
    }

    /* kafka_producer_init(): waits for what is decided, aborts what is open, and fences */
    if
    :: d_step {
#ifdef WITHOUT_FENCING
        !decided[r] -> abort_open(r);
#else
        !decided[0] && !decided[1] -> abort_open(0); abort_open(1); valid[1 - r] = 0; request[1 - r] = 0;
#endif
#ifdef TORN
        late[0] = 0; late[1] = 0;
#endif
        request[r] = 0; valid[r] = 1; printf("replica %d: init_transactions\n", r) }
    :: atomic { FAULT; goto closed }
    fi;

#ifndef WITHOUT_PROOF
    /* outbox_owner_prove() */
    if
    :: session[mine(0)].alive && session[mine(1)].alive
    :: atomic { !session[mine(0)].alive || !session[mine(1)].alive -> goto closed }
    fi;
#endif
    /* outbox_sql_last_number() */
    if
    :: d_step { session[mine(0)].alive -> last = number; printf("replica %d: last number is %d\n", r, last) }
    :: atomic { !session[mine(0)].alive -> goto closed }
    fi;

#ifndef WITHOUT_RECEIPTS
    /* receipt_store_read() */
    atomic {
#ifndef WITHOUT_OPEN_WAIT
        /* the last stable offset has passed all receipts */
        !(entry[0].number && !entry[0].visible) && !(entry[1].number && !entry[1].visible) &&
        !(entry[2].number && !entry[2].visible) && !(entry[3].number && !entry[3].visible) &&
        !(entry[4].number && !entry[4].visible) ->
#endif
        ahead = last;
        do
        :: d_step {
            j = 0; k = 0;
            do
            :: k < ENTRIES && entry[k].used ->
                j = j || (entry[k].visible && entry[k].number == ahead + 1); k++
            :: else -> break
            od; k = 0 }
            if
            :: j -> ahead++
#ifdef WITHOUT_OWN_TOMBSTONE
            :: j -> break   /* a leader of before names an older end */
#endif
            :: !j -> break
            fi
        od;
        j = 0; printf("replica %d: receipts end at %d\n", r, ahead)
    }
#ifdef TORN
    /* mark_ends(): EndTxn of the record that marks the end, and the connection is closed */
    if
    :: skip
    :: atomic {
        FAULT; late[r] = 1; printf("replica %d: EndTxn of the mark was sent twice\n", r);
#ifndef WITHOUT_MARK_SUSPICION
        goto closed
#endif
       }
    fi;
#endif
    /* finish_batch() */
    do
    :: last < ahead ->
#ifndef WITHOUT_PREPARED_FIRST
        ask_prepared;
#endif
        /* take_rows() */
        if
        :: d_step {
            session[mine(0)].alive && free(0, 255) ->
            find_receipt(last + 1);
            session[mine(0)].taken = rows & named(entry[k].listed); not_there = (entry[k].listed & ~rows) != 0; k = 0 }
        :: atomic { !session[mine(0)].alive -> goto closed }
        fi;
#ifdef WITHOUT_PREPARED_FIRST
        ask_prepared;
#endif
#ifndef WITHOUT_PREPARED_WAIT
        if
        :: atomic { not_there && asked -> goto closed }
        :: else
        fi;
#endif
        if
        :: d_step {
            session[mine(0)].alive && follows && no_other(0, last + 1) -> not_there = 0; asked = 0;
            session[mine(0)].number = last + 1; session[mine(0)].commit = 1;
            printf("replica %d: finishes batch %d with rows %d\n", r, last + 1, session[mine(0)].taken) }
        :: atomic { session[mine(0)].alive && !follows -> goto closed }
        :: atomic { !session[mine(0)].alive -> goto closed }
        fi;
        if
        :: d_step { session[mine(0)].committed -> session[mine(0)].committed = 0; last++ }
        :: atomic { !session[mine(0)].alive -> goto closed }
        :: atomic { FAULT; goto closed }
        fi
    :: else -> break
    od;
    ahead = 0;
#endif

    /* publish_serve() */
    serving[r] = 1;

#ifdef LATE
end_idle: /* both sessions are idle, or COMMIT of the other lane is on its way */
    if
#ifndef WITHOUT_SWEEP
    /* publish_sweep(): it may be due at any time */
    :: d_step {
        session[mine(lane)].alive && !awaits && (rows & below(watermark)) ->
        session[mine(lane)].taken = rows & below(watermark);
        printf("replica %d: sweeps rows %d\n", r, session[mine(lane)].taken) }
        goto send
#endif
    :: session[mine(lane)].alive && ((rows & ~below(watermark)) || holes)
    :: committed_other; goto end_idle
    :: atomic { !session[mine(lane)].alive -> goto closed }
    :: atomic { !session[mine(1 - lane)].alive -> goto closed }
    fi;
#ifdef WITHOUT_NEW_FIRST
    look_up;
    take_new;
#else
    take_new;
    look_up;
#endif
    if
    :: atomic { !session[mine(lane)].taken -> goto end_idle }
    :: else
    fi;
send:
#else
end_idle: /* both sessions are idle, or COMMIT of the other lane is on its way */
    if
    :: d_step {
        session[mine(lane)].alive && (session[mine(lane)].taken || (rows & ~seen) != 0) && free(lane, ~seen) ->
        session[mine(lane)].taken = session[mine(lane)].taken | (rows & ~seen); seen = seen | rows;
        printf("replica %d: takes rows %d\n", r, session[mine(lane)].taken) }
    :: committed_other; goto end_idle
    :: atomic { !session[mine(lane)].alive -> goto closed }
    :: atomic { !session[mine(1 - lane)].alive -> goto closed }
    fi;
#endif
    /* publish_send() */
    if
    :: d_step {
        valid[r] && !decided[r] -> find_open(r);
        entry[k].used = 1; entry[k].who = r; entry[k].events = session[mine(lane)].taken; k = 0;
        printf("replica %d: sends events %d\n", r, session[mine(lane)].taken) }
    :: atomic { !valid[r] -> goto closed }
    :: atomic { FAULT; goto closed }
    fi;
    /* publish_send_receipt() */
    if
    :: d_step {
        valid[r] -> find_open(r);
        entry[k].used = 1; entry[k].who = r; entry[k].listed = session[mine(lane)].taken; entry[k].number = last + 1;
        k = 0; printf("replica %d: sends receipt %d\n", r, last + 1) }
    :: atomic { !valid[r] -> goto closed }
    :: atomic { FAULT; goto closed }
    fi;
    /* publish_committed() of the other lane */
    if
    :: !awaits
    :: committed_other
    :: atomic { awaits && !session[mine(1 - lane)].alive -> goto closed }
    :: atomic { awaits && FAULT; goto closed }
#ifdef WITHOUT_COMMIT_AWAITED
    :: d_step { awaits -> awaits = 0 }
#endif
    fi;
    /* write_batch_number() */
    if
    :: d_step { session[mine(lane)].alive && follows && no_other(lane, last + 1) -> session[mine(lane)].number = last + 1;
        printf("replica %d: writes number %d\n", r, last + 1) }
    :: atomic { session[mine(lane)].alive && !follows -> goto closed }
    :: atomic { !session[mine(lane)].alive -> goto closed }
    fi;
#ifdef WITHOUT_KAFKA_FIRST
    if
    :: d_step { session[mine(lane)].alive -> session[mine(lane)].committed = 0; session[mine(lane)].commit = 1;
        printf("replica %d: sends COMMIT\n", r) }
    :: atomic { !session[mine(lane)].alive -> goto closed }
    fi;
#endif
    /* kafka_producer_commit(); meanwhile the other lane takes rows ahead */
    if
    :: d_step { answer[r] = 0; request[r] = valid[r]; printf("replica %d: asks Kafka to commit\n", r) }
#ifndef LATE
    :: d_step {
        session[mine(1 - lane)].alive && !session[mine(1 - lane)].commit && (rows & ~seen) != 0 && free(1 - lane, ~seen) ->
        session[mine(1 - lane)].taken = rows & ~seen; seen = seen | rows;
        answer[r] = 0; request[r] = valid[r];
        printf("replica %d: asks Kafka to commit, and takes rows %d ahead\n", r, session[mine(1 - lane)].taken) }
#endif
#ifdef TORN
    /* the connection is closed, librdkafka sends it again */
    :: d_step { valid[r] && FAULT; answer[r] = 0; request[r] = 1; late[r] = 1; cut = 1; printf("replica %d: asks Kafka to commit, twice\n", r) }
#endif
    fi;
    if
    :: answer[r]
    :: atomic { !valid[r] -> goto closed }
    :: atomic { FAULT; goto closed }
    fi;
    answer[r] = 0;
#ifndef WITHOUT_KAFKA_FIRST
    /* pg_send_commit() */
    if
    :: d_step { session[mine(lane)].alive -> session[mine(lane)].committed = 0; session[mine(lane)].commit = 1;
        printf("replica %d: sends COMMIT\n", r) }
    :: atomic { !session[mine(lane)].alive -> goto closed }
    fi;
#endif
    d_step { awaits = 1; last++; lane = 1 - lane }
#if defined(TORN) && !defined(WITHOUT_SUSPICION)
    /* publish_serve(): the term ends */
    if
    :: cut ->
        if
        :: session[mine(1 - lane)].committed || !session[mine(1 - lane)].alive
        :: atomic { FAULT; skip }
        fi;
        goto closed
    :: else
    fi;
#endif
    goto end_idle
}

#define applies(s) d_step { session[s].commit -> rows = rows & ~session[s].taken; \
        number = (session[s].number -> session[s].number : number); session[s].taken = 0; session[s].number = 0; \
        session[s].commit = 0; session[s].committed = 1; \
        printf("PostgreSQL: session %d has committed, number is %d\n", s, number) }

/* That of a dead replica for certain. */
#define times_out(w) valid[w] && !decided[w] && (!serving[w] || faults > 0) -> faults = faults - serving[w]

#ifdef TORN
#define no_late(w) late[w] = 0
#else
#define no_late(w) skip
#endif

/* The coordinator has an EndTxn. One that finds nothing open repeats an earlier one. */
inline ends(w) {
    find_open(w);
    if
    :: entry[k].used -> decided[w] = 1; printf("Kafka: decides to commit\n")
    :: else
    fi;
    k = 0
}

/* What is on its way arrives; the server ends sessions. */
proctype Servers() {
    byte k, j;
    bool doubled, disorder;
end_servers:
    do
    :: applies(0)
    :: applies(1)
    :: applies(2)
    :: applies(3)
    :: d_step { session[0].orphan -> end_session(0) }
    :: d_step { session[1].orphan -> end_session(1) }
    :: d_step { session[2].orphan -> end_session(2) }
    :: d_step { session[3].orphan -> end_session(3) }
    :: d_step { session[0].alive && FAULT; end_session(0) }
    :: d_step { session[1].alive && FAULT; end_session(1) }
    :: d_step { session[2].alive && FAULT; end_session(2) }
    :: d_step { session[3].alive && FAULT; end_session(3) }
    :: d_step { session[0].alive && session[1].alive && FAULT; end_session(0); end_session(1) } /* the lease */
    :: d_step { session[2].alive && session[3].alive && FAULT; end_session(2); end_session(3) }
    :: d_step { request[0] && !decided[0] -> request[0] = 0; ends(0); answer[0] = 1 }
    :: d_step { request[1] && !decided[1] -> request[1] = 0; ends(1); answer[1] = 1 }
    :: d_step { decided[0] -> show_open(0); decided[0] = 0; printf("Kafka: has committed\n") }
    :: d_step { decided[1] -> show_open(1); decided[1] = 0; printf("Kafka: has committed\n") }
#ifdef TORN
    /* A second copy ends whatever transaction of this epoch is open. To every broker librdkafka sends EndTxn of version 1. */
    :: d_step { late[0] && valid[0] && !decided[0] -> late[0] = 0; ends(0) }
    :: d_step { late[1] && valid[1] && !decided[1] -> late[1] = 0; ends(1) }
#endif
    /* transaction.timeout.ms */
    :: d_step { times_out(0); abort_open(0); valid[0] = 0; request[0] = 0; no_late(0); printf("Kafka: transaction timed out\n") }
    :: d_step { times_out(1); abort_open(1); valid[1] = 0; request[1] = 0; no_late(1); printf("Kafka: transaction timed out\n") }
    od
}

#ifdef FAILOVER
/* What a standby has at some time; all that follows there until it is promoted is lost. */
proctype Standby() {
    if
    :: d_step {
        copied_rows = rows; copied_written = written; copied_number = number; copied_prepared = prepared; copied = 1;
        printf("standby: has rows %d, number %d, prepared %d\n", rows, number, prepared) }
    :: skip /* synchronous */
    fi;
    d_step {
        if
        :: copied -> rows = copied_rows; written = copied_written; number = copied_number; prepared = copied_prepared
        :: else
        fi;
        reused = !(written & bit(2)); failed = 1;
        end_session(0); end_session(1); end_session(2); end_session(3);
        copied = 0; copied_rows = 0; copied_written = 0; copied_number = 0; copied_prepared = 0;
        printf("standby: is promoted\n") }
}

/* Event 1 is of a transaction in two phases, event 3 is written after the failover. */
proctype Writer() {
    do
    :: d_step { !(written & bit(2)) && !failed -> rows = rows | bit(2); written = written | bit(2) }
    :: d_step { prepared -> prepared = 0; rows = rows | bit(1); written = written | bit(1); printf("COMMIT PREPARED\n") }
    :: d_step { !prepared && !(written & bit(1)) && !failed -> prepared = bit(1) }
    :: d_step { failed && !(written & bit(3)) -> rows = rows | bit(3); written = written | bit(3) }
    :: failed && !prepared && (written & bit(3)) -> break
    od
}
#else
#ifdef LATE
/* Event 0 has a number that was drawn without an INSERT. Event 1 is committed late, or rolled back. Event 3 is written
 * after that in the same aggregate. Event 2 is of another one. */
proctype Writer() {
    byte done;
    do
    :: d_step { !(done & bit(0)) -> done = done | bit(0); rows = rows | bit(0); written = written | bit(0) }
    :: d_step { !(done & bit(1)) -> done = done | bit(1); rows = rows | bit(1); written = written | bit(1); inserting = inserting & ~bit(1) }
    :: d_step { !(done & bit(1)) -> done = done | bit(1); inserting = inserting & ~bit(1) }
    :: d_step { !(done & bit(2)) -> done = done | bit(2); rows = rows | bit(2); written = written | bit(2); inserting = inserting & ~bit(2) }
    :: d_step { (done & bit(1)) && !(done & bit(3)) -> done = done | bit(3); rows = rows | bit(3); written = written | bit(3) }
    :: done == 15 -> break
    od
}
#else
proctype Writer() {
    byte e;
    do
    :: e < EVENTS -> d_step { rows = rows | bit(e); written = written | bit(e); e++ }
    :: else -> break
    od
}
#endif
#endif

/* Nothing moves any more: everything has arrived. */
proctype Audit() {
    bool lost, stuck;
    timeout;
    stuck = !serving[0] && !serving[1];
    assert(!stuck);
    lost = (written & ~published) != 0;
    assert(!lost);
    stuck = (rows != 0);
    assert(!stuck)
}

init {
    atomic {
#ifdef LATE
        inserting = bit(1) | bit(2);
#endif
#ifdef FAILOVER
        run Standby();
#endif
#if !defined(LATE) && !defined(FAILOVER)
        run Replica(1);
#endif
        run Replica(0); run Servers(); run Writer(); run Audit()
    }
}
