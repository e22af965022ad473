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
 *
 *    run crash -DEVENTS=3 -DFAULTS=2
 *    without RECEIPTS in crash finds doubled
 *    without KAFKA_FIRST in crash finds lost
 *    without OWN_TOMBSTONE in crash finds doubled
 *    without FENCING in crash finds nothing
 *    without OPEN_WAIT in crash finds nothing
 *    without FENCING+OPEN_WAIT in crash finds doubled
 *    without NUMBER_CHAIN in crash finds nothing
 *    without COMMIT_AWAITED in crash finds nothing
 *    without NUMBER_CHAIN+COMMIT_AWAITED in crash finds doubled
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

byte faults = FAULTS;

/* --- PostgreSQL --- */
byte rows;           /* in the table: a bit for an event */
byte written;        /* all that their writers have committed */
byte number;         /* the last batch number */

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
        disorder = disorder || (entry[j].visible && entry[j].events && entry[k].events &&
            ((j < k && entry[j].events > entry[k].events) || (j > k && entry[j].events < entry[k].events)));
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

proctype Replica(bit r) {
    byte last, ahead;
    byte seen; /* up to the watermark */
    byte k, j; /* scratch */
    bit lane;
    bool awaits; /* COMMIT of the other lane */

closed: /* outbox_owner_finish(), also by a crash */
    skip;
    d_step {
        last = 0; ahead = 0; seen = 0; lane = 0; awaits = 0; answer[r] = 0; serving[r] = 0;
        session[mine(0)].orphan = session[mine(0)].alive;
        session[mine(1)].orphan = session[mine(1)].alive;
        printf("replica %d: has no sessions\n", r)
    }

end_standby: /* outbox_owner_try(): both locks, or none is kept */
    atomic {
        !session[0].alive && !session[1].alive && !session[2].alive && !session[3].alive ->
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
        request[r] = 0; valid[r] = 1; printf("replica %d: init_transactions\n", r) }
    :: atomic { FAULT; goto closed }
    fi;

    /* outbox_owner_prove(), outbox_sql_last_number() */
    if
    :: d_step { session[mine(0)].alive && session[mine(1)].alive -> last = number;
        printf("replica %d: last number is %d\n", r, last) }
    :: atomic { !session[mine(0)].alive || !session[mine(1)].alive -> goto closed }
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
    /* finish_batch() */
    do
    :: last < ahead ->
        if
        :: d_step {
            session[mine(0)].alive ->
            k = 0;
            do
            :: entry[k].visible && entry[k].number == last + 1 -> break
            :: else -> k++
            od;
            session[mine(0)].taken = rows & entry[k].listed; k = 0;
            session[mine(0)].number = last + 1; session[mine(0)].commit = 1;
        printf("replica %d: finishes batch %d\n", r, last + 1) }
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

end_idle: /* both sessions are idle, or COMMIT of the other lane is on its way */
    if
    :: d_step {
        session[mine(lane)].alive && (session[mine(lane)].taken || (rows & ~seen) != 0) ->
        session[mine(lane)].taken = session[mine(lane)].taken | (rows & ~seen); seen = seen | rows;
        printf("replica %d: takes rows %d\n", r, session[mine(lane)].taken) }
    :: atomic { !session[mine(lane)].alive -> goto closed }
    :: atomic { !session[mine(1 - lane)].alive -> goto closed }
    fi;
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
    :: d_step { awaits && session[mine(1 - lane)].committed -> session[mine(1 - lane)].committed = 0; awaits = 0 }
    :: atomic { awaits && !session[mine(1 - lane)].alive -> goto closed }
    :: atomic { awaits && FAULT; goto closed }
#ifdef WITHOUT_COMMIT_AWAITED
    :: d_step { awaits -> awaits = 0 }
#endif
    fi;
    /* write_batch_number() */
    if
    :: d_step { session[mine(lane)].alive && follows -> session[mine(lane)].number = last + 1;
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
    :: d_step {
        session[mine(1 - lane)].alive && !session[mine(1 - lane)].commit && (rows & ~seen) != 0 ->
        session[mine(1 - lane)].taken = rows & ~seen; seen = seen | rows;
        answer[r] = 0; request[r] = valid[r];
        printf("replica %d: asks Kafka to commit, and takes rows %d ahead\n", r, session[mine(1 - lane)].taken) }
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
    goto end_idle
}

#define applies(s) d_step { session[s].commit -> rows = rows & ~session[s].taken; \
        number = (session[s].number -> session[s].number : number); session[s].taken = 0; session[s].number = 0; \
        session[s].commit = 0; session[s].committed = 1; \
        printf("PostgreSQL: session %d has committed, number is %d\n", s, number) }

/* That of a dead replica for certain. */
#define times_out(w) valid[w] && !decided[w] && (!serving[w] || faults > 0) -> faults = faults - serving[w]

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
    :: d_step { request[0] -> request[0] = 0; decided[0] = 1; answer[0] = 1; printf("Kafka: decides to commit\n") }
    :: d_step { request[1] -> request[1] = 0; decided[1] = 1; answer[1] = 1; printf("Kafka: decides to commit\n") }
    :: d_step { decided[0] -> show_open(0); decided[0] = 0; printf("Kafka: has committed\n") }
    :: d_step { decided[1] -> show_open(1); decided[1] = 0; printf("Kafka: has committed\n") }
    /* transaction.timeout.ms */
    :: d_step { times_out(0); abort_open(0); valid[0] = 0; request[0] = 0; printf("Kafka: transaction timed out\n") }
    :: d_step { times_out(1); abort_open(1); valid[1] = 0; request[1] = 0; printf("Kafka: transaction timed out\n") }
    od
}

proctype Writer() {
    byte e;
    do
    :: e < EVENTS -> d_step { rows = rows | bit(e); written = written | bit(e); e++ }
    :: else -> break
    od
}

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
    atomic { run Replica(0); run Replica(1); run Servers(); run Writer(); run Audit() }
}
