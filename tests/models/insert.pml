/* SPDX-License-Identifier: Apache-2.0
 *
 * From Kafka to ClickHouse: the protocol of docs/guarantees-insert.md, with exactly_once.
 *
 * One partition, two replicas, one or two tables. A replica takes the partition, reads each table back, sends batches, and commits the
 * lowest mark of its tables; each table of a replica has a process (insert_table.c and the table's worker), as have what the replica
 * does in the group (insert_group.c, insert_commit.c, insert_lease.c), what the coordinator does with it, and each INSERT from when it
 * is sent until nothing can come of it any more. The comments name the functions. A frozen or suspended replica is one that takes no
 * step; its lease never ends by its own clock, which may have stood still.
 *
 * Time: a deadline is over some time after the INSERT was sent, and before the coordinator throws its sender out, since the lease
 * that it comes from is shorter than the session. A measured clock makes the deadlines that follow as late as the lease at that moment
 * allows: `good` is false from when the member was thrown out until the clock is measured again.
 *
 * Faults, at any step, FAULTS of them: a replica dies, or is thrown out while it lives; it is asked to give the partition back; an
 * answer of ClickHouse or Kafka does not come (what was sent is executed later, or not); a commit is refused; an INSERT comes late, is
 * killed, stored in part or in the table and not in the view, or refused before or after the table has it; a table is paused; with
 * MOVES somebody sets the offset back, or deletes it. BAD has the messages of which no row can be made.
 *
 * Left out:
 * - Fetching: an active feed is given the next message at any time. The open batch behind the flight: it moves no mark.
 * - Refusals that are repeated at once (no connection, too many queries, too many parts): nothing was executed.
 * - Other partitions, but that one of them may renew the lease. Endpoints, replication, quorum.
 * - That the server forgets a token; that a block of a table with views is stored in part; that an offset is set back or deleted with a
 *   note in its metadata, or deleted before a higher one than the log's beginning was committed. The document names these.
 * - A view that is made while the replicas run. What it refuses before the table was read again is kept, and noted before it is repeated.
 * - Order: rows that an INSERT still lacked come after higher ones, as the document says.
 * - Progress: what still waits is seen only where no step is possible any more. Read-backs or memberships that end and begin again for
 *   ever are not found.
 *
 *    run letters -DTABLES=1 -DEVENTS=2 -DBAD=1 -DMOVES -DFAULTS=3
 *    without LEASE in letters finds doubled
 *    without CLOCK_ORDER in letters finds doubled
 *    without WAIT_FOR_STARTS in letters finds doubled
 *    without READ_BACK in letters finds doubled
 *    without READ_BACK_OF_DOUBT in letters finds doubled
 *    without READ_BACK_OF_REFUSAL in letters finds doubled
 *    without SETTLE in letters finds doubled
 *    without SETTLE_AGAIN in letters finds doubled
 *    without OUTLAST in letters finds doubled
 *    without DEAD_READ_BACK in letters finds doubled
 *    without DEAD_LETTERS_FIRST in letters finds lost
 *    without MONOTONIC_COMMIT in letters finds lost
 *    without FIRST_COMMIT in letters finds lost
 *    run blocks -DTABLES=1 -DEVENTS=2 -DMOVES -DFAULTS=3
 *    without FIRST_COMMIT in blocks finds lost
 *    run long -DTABLES=1 -DEVENTS=3 -DBAD=2 -DFAULTS=2
 *    run tables -DTABLES=2 -DEVENTS=1 -DFAULTS=2
 *    without ALL_TABLES in tables finds lost
 *    run views -DTABLES=1 -DEVENTS=2 -DVIEW -DFAULTS=3
 *    without VIEW_NOTES in views finds lost
 *    without NOTE_FIRST in views finds doubled
 *    without NOTE_CARRIED in views finds lost
 *    without TOKEN_REPEAT in views finds lost
 *    without REPEAT_LEASE in views finds doubled
 *    without REJOIN in views finds doubled
 */

#define REPLICAS 2
#ifndef BAD
#define BAD 0
#endif
#define bit(n)     (1 << (n))
#define ALL        (bit(EVENTS) - 1)
#define NONE       0 /* no offset; the log begins at 1: message n has offset n + 1 */
#define END        (EVENTS + 1)
#define from_on(o) (ALL & ~(bit((o) - 1) - 1))

byte faults = FAULTS;
bool doubled;

/* --- ClickHouse --- */
typedef Content {
    unsigned rows : 3; /* a bit for each message that is there as a row */
    unsigned dead : 3; /* as a dead letter */
};
Content table[TABLES];

#define GONE 0 /* places of a request */
#define WIRE 1
#define RUNS 2 /* in system.processes */
typedef Request {
    unsigned place : 2;
    bit late;    /* the deadline in its statement is over */
    bit awaited; /* its sender waits for the answer */
    bit dead;    /* it is the one of the dead letters */
    bit repeat;  /* INSERT ... SELECT, for the view */
    unsigned rows : 3;
    unsigned token : 3;
};
Request sent[REPLICAS * TABLES * 2]; /* two for each table's worker: what it waits for, and what it has given up */

#ifdef VIEW
#define TOKENS 5
unsigned view : 3;
typedef Token {
    unsigned rows : 3; /* of the INSERT: what its note says */
    bit in_table;      /* the table remembers it */
    bit in_view;
};
Token token[TOKENS + 1]; /* 0: none */
#endif

/* --- the coordinator of the group --- */
unsigned owner : 2;     /* of the partition: a replica + 1; 0: nobody */
unsigned committed : 3; /* its offset */
unsigned noted : 3;     /* and the token in its metadata */

typedef Commit { /* one on its way */
    bit there;
    unsigned offset : 3;
    unsigned note : 3;
};

/* --- the relay --- */
#define WAITING 0 /* states of a feed: it has to be read back */
#define SETTLED 1 /* nothing runs */
#define BEHIND  2 /* it is read, and a view may lack rows that the table has */
#define SERVED  3 /* the INSERT that gives them to the view is sent */
#define ACTIVE  4
#define PAUSED  5

#define NO      0 /* states of a flight: there is none */
#define NOTING  1 /* waits for a commit */
#define NOTED   2 /* which is under way */
#define READY   3
#define SENT    4
typedef Feed {
    unsigned state : 3;
    unsigned next : 3;    /* the offset that it takes next */
    unsigned mark : 3;    /* everything before it is stored */
    unsigned found : 3;   /* by the read-back */
    unsigned refused : 3; /* rows that the table refused alone: dead letters when they come again */
    unsigned owed : 3;    /* the token of an INSERT that is not done in all views, perhaps */
    unsigned flight : 3;
    unsigned rows : 3;    /* what of the flight is not stored yet */
    unsigned dead : 3;
    unsigned token : 3;
    unsigned doubt : 3;   /* 1: an INSERT has no answer; 2 + n: and message n is one of its rows */
};
Feed feed[REPLICAS * TABLES];

typedef Replica {
    bit up;
    bit member;         /* of the group, as the coordinator has it */
    bit owns;           /* it believes that it owns the partition */
    unsigned giving : 2; /* 1: it is to give the partition back; 2: what was under way is given up */
    bit leaving;
    unsigned known : 3; /* the committed offset, as far as it knows */
    unsigned lease : 2; /* 1: by a commit that was sent before the server's clock was measured; 2: after that */
    bit clock;          /* it is measured */
    bit good;           /* since the member was last thrown out; else every deadline is over */
    Commit commit;
    Commit stray;       /* nobody waits for its answer */
};
Replica replica[REPLICAS];

#define R replica[r]
#define F feed[r * TABLES + t]
/* Once everything is committed no fault can do harm. */
#define hostile (faults > 0 && committed != END)
#define fault hostile -> faults--

/* Of each table's worker: two places. */
#define one(r, t) sent[((r) * TABLES + (t)) * 2]
#define two(r, t) sent[((r) * TABLES + (t)) * 2 + 1]
#define runs(r, t) (one(r, t).place == RUNS || two(r, t).place == RUNS)
#define nothing_runs (!runs(0, t) && !runs(1, t))
#define may_start(s) (s.place == WIRE && !s.late)
#define any_may_start(r, t) (may_start(one(r, t)) || may_start(two(r, t)))

/* insert_feed_done() */
#define done(f) (f.flight == NO && f.state == ACTIVE -> f.next : f.mark)
/* insert_partition_low() */
#ifdef WITHOUT_MONOTONIC_COMMIT
#define mark_of(f) f.next
#else
#define mark_of(f) done(f)
#endif
#if TABLES == 1
#define FEED0 feed[r]
#define low mark_of(FEED0)
#define either(what) what(FEED0)
#define none_may_start !any_may_start(r, 0)
#else
#define FEED0 feed[r * 2]
#define FEED1 feed[r * 2 + 1]
#define lower(a, b) (a < b -> a : b)
#ifdef WITHOUT_ALL_TABLES
#define low (FEED1.state == PAUSED -> mark_of(FEED0) : (FEED0.state == PAUSED -> mark_of(FEED1) : \
    lower(mark_of(FEED0), mark_of(FEED1))))
#else
#define low lower(mark_of(FEED0), mark_of(FEED1))
#endif
#define either(what) (what(FEED0) || what(FEED1))
#define none_may_start (!any_may_start(r, 0) && !any_may_start(r, 1))
#endif
#define is_noting(f) f.flight == NOTING
#define is_ready(f) (f.flight == READY || f.state == BEHIND)

#ifdef WITHOUT_SETTLE
#define has_settled true
#else
#define has_settled nothing_runs
#endif
#if defined(WITHOUT_SETTLE) || defined(WITHOUT_SETTLE_AGAIN)
#define has_settled_again true
#else
#define has_settled_again nothing_runs
#endif
/* insert_doubt_has_begun(), or the server's deadline ends what has not */
#ifdef WITHOUT_OUTLAST
#define is_outlasted true
#else
#define is_outlasted (!any_may_start(r, t) || \
    (F.doubt > 1 && ((table[t].rows | table[t].dead) & bit(F.doubt - 2))))
#endif
#ifdef WITHOUT_DEAD_READ_BACK
#define what_is_there table[t].rows
#else
#define what_is_there (table[t].rows | table[t].dead)
#endif
#ifdef WITHOUT_CLOCK_ORDER
#define LEASE 1
#else
#define LEASE 2
#endif
#ifdef WITHOUT_WAIT_FOR_STARTS
#define starts_are_over true
#else
#define starts_are_over none_may_start
#endif

/* insert_note_of() */
#if !defined(VIEW) || defined(WITHOUT_VIEW_NOTES)
#define note_of(f) 0
#elif defined(WITHOUT_NOTE_CARRIED)
#define note_of(f) (f.flight == NOTING -> f.token : 0)
#else
#define note_of(f) (f.flight != NO && f.token != 0 -> f.token : f.owed)
#endif

/* complete_views() */
#ifdef WITHOUT_REPEAT_LEASE
#define may_repeat true
#else
#define may_repeat (R.clock && R.lease == 2)
#endif

/* The request of the worker goes into one of its two places. */
inline send(is_dead, is_repeat, what, with) {
    if
    :: one(r, t).place == GONE ->
        one(r, t).place = WIRE; one(r, t).awaited = 1; one(r, t).dead = is_dead; one(r, t).repeat = is_repeat;
        one(r, t).rows = what; one(r, t).token = with; one(r, t).late = !R.good
    :: else ->
        two(r, t).place = WIRE; two(r, t).awaited = 1; two(r, t).dead = is_dead; two(r, t).repeat = is_repeat;
        two(r, t).rows = what; two(r, t).token = with; two(r, t).late = !R.good
    fi
}
#define has_place (one(r, t).place == GONE || two(r, t).place == GONE)
#define is_awaited (one(r, t).awaited || two(r, t).awaited)

/* insert_feed_takes(): what was found is passed over. */
inline pass_found() {
    do
    :: F.next < END && (F.found & bit(F.next - 1)) -> F.next++
    :: else -> break
    od
}

/* table_worker_end_running(), insert_doubt_note() */
inline doubt_it() {
    if
    :: F.rows == 0 -> F.doubt = 1
    :: F.rows & 4 -> F.doubt = 4
    :: (F.rows & 6) == 2 -> F.doubt = 3
    :: F.rows == 1 -> F.doubt = 2
    fi;
    one(r, t).awaited = 0; two(r, t).awaited = 0
}

/* insert_feed_rewind() */
inline rewind() {
    F.mark = done(F);
    F.next = F.mark; F.found = 0; F.state = WAITING
}

/* drop_batches(), insert_note_owe(), insert_batch_drop() */
inline drop() {
    if
    :: F.flight == SENT -> doubt_it()
    :: F.state == SERVED -> F.doubt = 1; one(r, t).awaited = 0; two(r, t).awaited = 0
    :: else
    fi;
    rewind();
    if
    :: F.flight >= READY && F.token != 0 -> F.owed = F.token
    :: else
    fi;
    F.flight = NO; F.rows = 0; F.dead = 0; F.token = 0
}

/* insert_batch_stored() */
inline stored() {
    F.flight = NO; F.dead = 0; F.token = 0; F.mark = F.next
}

/* insert_table_forget(), let_partition_go(): a doubt is the worker's, and stays. */
inline forget() {
    drop();
    F.state = WAITING; F.next = NONE; F.mark = NONE; F.refused = 0; F.owed = 0
}

inline forget_everywhere() {
    t = 0;
    do
    :: t < TABLES -> forget(); t++
    :: else -> break
    od;
    t = 0
}

#ifdef VIEW
#define is_used(k) (noted == k || replica[0].commit.note == k || replica[1].commit.note == k || \
    replica[0].stray.note == k || replica[1].stray.note == k || \
    feed[0].token == k || feed[1].token == k || feed[0].owed == k || feed[1].owed == k || \
    sent[0].token == k || sent[1].token == k || sent[2].token == k || sent[3].token == k)
inline take_token() {
    if
    :: !is_used(1) -> F.token = 1
    :: is_used(1) && !is_used(2) -> F.token = 2
    :: is_used(1) && is_used(2) && !is_used(3) -> F.token = 3
    :: is_used(1) && is_used(2) && is_used(3) && !is_used(4) -> F.token = 4
    :: is_used(1) && is_used(2) && is_used(3) && is_used(4) && !is_used(5) -> F.token = 5
    fi;
    token[F.token].rows = F.rows; token[F.token].in_table = 0; token[F.token].in_view = 0
}

/* The server gives a block to the view after the table has it, and drops it where its token is known. */
inline give_to_view(k) {
    if
    :: !token[k].in_view ->
        doubled = doubled || (view & token[k].rows);
        view = view | token[k].rows; token[k].in_view = 1
    :: else
    fi
}
#endif

/* insert_table.c, table_worker.c: one table of one replica. */
proctype Table(byte r, t) {
    byte end;
end_table:
    do
#ifdef WITHOUT_READ_BACK
    :: d_step { R.owns && R.giving < 2 && F.state == WAITING && F.flight == NO ->
        F.next = (F.mark == NONE -> 1 : F.mark);
        F.mark = F.next; F.state = ACTIVE; F.owed = 0; F.doubt = 0;
        printf("replica %d, table %d: goes on at %d\n", r, t, F.next) }
#else
    /* settle(); where nothing is in doubt that and the next step are one */
    :: d_step { R.owns && R.giving < 2 && F.state == WAITING && F.flight == NO && F.doubt != 0 && has_settled ->
        F.state = SETTLED;
        printf("replica %d, table %d: has settled\n", r, t) }

    /* outlast_doubt(), read_back_offsets(), complete_views() */
    :: d_step { R.owns && R.giving < 2 && F.flight == NO &&
        ((F.state == WAITING && F.doubt == 0 && has_settled) ||
         (F.state == SETTLED && is_outlasted && has_settled_again)) ->
        F.doubt = 0;
        F.found = what_is_there;
        if
        :: F.mark == NONE -> /* the lowest that is there, or where the log begins */
            F.mark = 1;
            do
            :: F.found != 0 && !(F.found & bit(F.mark - 1)) -> F.mark++
            :: else -> break
            od
        :: else
        fi;
        F.next = F.mark;
        pass_found();
        F.state = ACTIVE;
#ifdef VIEW
        if
        :: F.owed != 0 && (table[t].rows & token[F.owed].rows) -> F.state = BEHIND
        :: else -> F.owed = 0
        fi;
#endif
        printf("replica %d, table %d: has found %d, goes on at %d\n", r, t, F.found, F.next) }
#endif

#ifdef VIEW
    /* begin_repetition(), view_repeat() */
    :: d_step { R.owns && R.giving < 2 && F.state == BEHIND && may_repeat && has_place ->
        send(0, 1, token[F.owed].rows, F.owed);
        F.state = SERVED;
        printf("replica %d, table %d: repeats INSERT %d for the view\n", r, t, F.owed) }
    :: atomic { F.state == SERVED && (hostile || !is_awaited) ->
        d_step {
            faults = (is_awaited -> faults - 1 : faults);
            one(r, t).awaited = 0; two(r, t).awaited = 0;
            F.doubt = 1; F.state = WAITING; F.next = F.mark; F.found = 0;
            printf("replica %d, table %d: has no answer\n", r, t)
        } }
#endif

    /* insert_table_add(), submit() */
    :: atomic { R.owns && R.giving < 2 && F.state == ACTIVE && F.flight == NO && F.next < END ->
        F.mark = F.next;
        if
        :: end = F.next + 1
        :: F.next + 1 < END -> end = END
        fi;
        d_step {
            F.rows = from_on(F.next) & ~from_on(end) & ~F.found;
            F.dead = F.rows & (BAD | F.refused);
            F.rows = F.rows & ~F.dead;
            F.next = end; end = 0;
            pass_found();
            F.flight = READY;
#ifdef VIEW
            if
            :: F.rows != 0 ->
                take_token();
#if !defined(WITHOUT_NOTE_FIRST) && !defined(WITHOUT_VIEW_NOTES)
                F.flight = NOTING
#endif
            :: else
            fi;
#endif
#ifndef WITHOUT_FIRST_COMMIT
            if
            :: R.known == NONE -> F.flight = NOTING
            :: else
            fi;
#endif
            printf("replica %d, table %d: batch of rows %d, dead letters %d\n", r, t, F.rows, F.dead)
        } }

    /* table_worker_hold_deadline(), attempt(): the rows, then the dead letters */
    :: d_step { F.flight == READY && F.state != PAUSED && R.clock && R.lease >= LEASE && has_place ->
        if
        :: F.rows != 0 -> send(0, 0, F.rows, F.token)
        :: else -> send(1, 0, F.dead, 0)
        fi;
        F.flight = SENT;
        printf("replica %d, table %d: sends rows %d, else dead letters %d\n", r, t, F.rows, F.dead) }

    /* judge(), unclear(): no answer; there is nothing any more that could give one, or it takes too long */
    :: atomic { F.flight == SENT && (hostile || !is_awaited) ->
        d_step {
            if
            :: is_awaited -> faults--
            :: else
            fi;
            printf("replica %d, table %d: has no answer\n", r, t);
#if defined(VIEW) && !defined(WITHOUT_TOKEN_REPEAT)
            if
            :: F.rows != 0 -> doubt_it(); F.flight = READY /* goes_by_token() */
            :: else -> drop()
            fi
#elif defined(WITHOUT_TOKEN_REPEAT)
            drop();
            F.owed = 0
#elif defined(WITHOUT_READ_BACK_OF_DOUBT)
            doubt_it();
            F.doubt = 0; F.flight = READY
#else
            drop()
#endif
        } }

#if TABLES > 1
    /* pause_table(): something that an operator has to mend, found while nothing is under way */
    :: d_step { R.owns && R.giving < 2 && F.flight == NO && F.state != PAUSED && fault;
        rewind();
        F.state = PAUSED;
        printf("replica %d, table %d: is paused\n", r, t) }
#endif
    /* opened(), repeat_parked() */
    :: d_step { F.state == PAUSED ->
        F.state = WAITING;
        printf("replica %d, table %d: is open again\n", r, t) }
    od
}

#define clear(c) c.there = 0; c.offset = 0; c.note = 0

inline note_flights(from, to) {
    t = 0;
    do
    :: t < TABLES ->
        if
        :: F.flight == from -> F.flight = to
        :: else
        fi;
        t++
    :: else -> break
    od;
    t = 0
}

/* insert_group.c, insert_commit.c, insert_lease.c */
proctype Member(byte r) {
    byte t;
end_member:
    do
    /* on_assigned(), ask_committed() */
    :: d_step { R.up && R.member && !R.leaving && owner == 0 ->
        owner = r + 1; R.owns = 1; R.known = committed;
        do
        :: t < TABLES ->
            F.state = WAITING; F.next = committed; F.mark = committed;
#if defined(VIEW) && !defined(WITHOUT_VIEW_NOTES)
            F.owed = noted;
#endif
            t++
        :: else -> break
        od;
        t = 0;
        printf("replica %d: owns the partition, committed %d\n", r, committed) }
    /* on_revoked(lost); it joins again. Half a minute has passed: the clock is due. */
    :: d_step { R.up && !R.member && !R.leaving ->
        forget_everywhere();
        R.member = 1; R.owns = 0; R.giving = 0; R.lease = 0; R.clock = 0; R.known = 0;
        clear(R.commit);
        printf("replica %d: learns that it was thrown out, and joins\n", r) }

    /* server_clock_measure(); again: it is 30 s old */
    :: atomic { either(is_ready) && (!R.clock || (R.lease == 2 && hostile)) ->
        d_step {
            faults = (R.clock -> faults - 1 : faults);
            R.clock = 1; R.good = 1; R.lease = (R.lease == 2 -> 1 : R.lease);
            printf("replica %d: measures the clock\n", r)
        } }

    /* renew_lease(), insert_lease_grant(): a commit, of this partition or another one, is sent after that, and accepted */
    :: d_step { R.owns && owner == r + 1 && R.giving < 2 && !R.commit.there && R.known != NONE &&
        R.clock && R.lease < 2 && either(is_ready) ->
        committed = R.known; noted = note_of(FEED0);
        R.lease = 2;
        printf("replica %d: has a new lease by a commit of %d, note %d\n", r, committed, noted) }
    :: d_step { R.member && R.clock && R.lease < 2 && either(is_ready) ->
        R.lease = 2;
        printf("replica %d: has a new lease\n", r) }

    /* insert_commit_if_due(), send_offsets() */
    :: d_step { R.owns && R.giving < 2 && !R.commit.there &&
        ((low != NONE && low > R.known) || either(is_noting)) ->
        R.commit.there = 1;
        R.commit.offset = (low > R.known -> low : R.known);
        if
        :: R.commit.offset == NONE -> /* beginning_of(), insert_partition_pin_beginning() */
            R.commit.offset = 1;
#if TABLES > 1
            do
            :: t < TABLES ->
                if
                :: F.state == PAUSED && F.mark == NONE -> F.next = 1; F.mark = 1
                :: else
                fi;
                t++
            :: else -> break
            od;
            t = 0
#endif
        :: else
        fi;
        R.commit.note = note_of(FEED0);
        note_flights(NOTING, NOTED);
        printf("replica %d: commits %d, note %d\n", r, R.commit.offset, R.commit.note) }
    /* insert_commit_answered(): too late, or not at all; begin_anew(), leave() */
    :: d_step { R.commit.there && R.member && R.owns && !R.stray.there && fault;
        R.stray.there = 1; R.stray.offset = R.commit.offset; R.stray.note = R.commit.note;
        clear(R.commit);
        note_flights(NOTED, NOTING);
#ifndef WITHOUT_REJOIN
        forget_everywhere();
        R.owns = 0; R.giving = 0; R.lease = 0; R.known = 0; R.leaving = 1;
#endif
        printf("replica %d: does not know what became of its commit\n", r) }
    /* leave(), wait_for_starts() */
    :: d_step { R.leaving && starts_are_over ->
        owner = (R.member && owner == r + 1 -> 0 : owner);
        R.leaving = 0; R.member = 1;
        clear(R.stray);
        printf("replica %d: has left, and joins\n", r) }

    /* on_revoked(): the others want the partition */
    :: d_step { R.owns && R.member && R.giving == 0 && fault;
        R.giving = 1;
        printf("replica %d: is to give the partition back\n", r) }
    /* finish_held(), commit_and_wait() are over, or have ended by time; forget_everywhere() */
    :: d_step { R.giving == 1 && !R.commit.there ->
        forget_everywhere();
        R.giving = 2;
        printf("replica %d: gives up what is under way\n", r) }
    /* wait_for_starts() */
    :: d_step { R.giving == 2 && R.member && starts_are_over ->
        owner = 0; R.owns = 0; R.giving = 0; R.known = 0;
        clear(R.stray); /* of an old generation */
        printf("replica %d: has given the partition back\n", r) }

    /* it dies */
    :: d_step { R.up && (R.owns || R.leaving) && fault;
        forget_everywhere();
        do
        :: t < TABLES -> F.doubt = 0; t++
        :: else -> break
        od;
        t = 0;
        if
        :: R.commit.there && R.member ->
            R.stray.there = 1; R.stray.offset = R.commit.offset; R.stray.note = R.commit.note
        :: else
        fi;
        clear(R.commit);
        R.up = 0; R.owns = 0; R.giving = 0; R.leaving = 0; R.lease = 0; R.clock = 0; R.known = 0;
        printf("replica %d: dies\n", r) }
    /* a new process is another member; the partition is not its before the old one is thrown out */
    :: d_step { !R.up && !R.member ->
        R.up = 1; R.member = 1;
        printf("replica %d: starts, and joins\n", r) }
    od
}

/* The coordinator, as far as it concerns this replica. */
proctype Coordinator(byte r) {
    byte t;
end_coordinator:
    do
    :: d_step { R.commit.there && R.member && owner == r + 1 ->
        committed = R.commit.offset; noted = R.commit.note;
        R.known = committed;
        clear(R.commit);
        note_flights(NOTED, READY); /* end_notes(), insert_note_accepted() */
        printf("coordinator: accepts %d of replica %d, note %d\n", committed, r, noted) }
    /* in a rebalance */
    :: d_step { R.commit.there && R.member && fault;
        clear(R.commit);
        note_flights(NOTED, NOTING);
        printf("coordinator: refuses a commit of replica %d\n", r) }
    :: d_step { R.stray.there && R.member ->
        committed = R.stray.offset; noted = R.stray.note;
        clear(R.stray);
        printf("coordinator: accepts %d of replica %d late, note %d\n", committed, r, noted) }

    /* The session ends: of one that died, or was suspended or cut off. That is after the lease, by the server's clock. */
    :: atomic { R.member && (!R.up || (hostile && owner == r + 1)) ->
        d_step {
            faults = (R.up -> faults - 1 : faults);
            R.member = 0; R.good = 0;
            owner = (owner == r + 1 -> 0 : owner);
            clear(R.stray);
            do
            :: t < TABLES ->
                one(r, t).late = (one(r, t).place == WIRE); two(r, t).late = (two(r, t).place == WIRE);
                t++
            :: else -> break
            od;
            t = 0;
            printf("coordinator: throws replica %d out\n", r)
        } }

#ifdef MOVES
    /* somebody sets the offset back, or deletes it */
    :: d_step { committed > 1 && fault;
        committed = 1; noted = 0;
        printf("somebody sets the offset back\n") }
    :: d_step { committed > 1 && fault;
        committed = NONE; noted = 0;
        printf("somebody deletes the offset\n") }
#endif
    od
}

#ifdef WITHOUT_LEASE
#define is_late(s) false
#elif defined(WITHOUT_REPEAT_LEASE)
#define is_late(s) (s.late && !s.repeat)
#else
#define is_late(s) s.late
#endif
#define S sent[s]

/* An INSERT of the table's worker, on its way and in the server. */
inline store() {
#ifdef VIEW
    has = some;
    if
    :: some != 0 && S.token != 0 ->
        some = (token[S.token].in_table -> 0 : some);
        token[S.token].in_table = 1;
        if
        :: !behind -> give_to_view(S.token)
        :: else
        fi
    :: else
    fi;
    behind = false;
#endif
    doubled = doubled || (some & (table[t].rows | table[t].dead));
    if
    :: S.dead -> table[t].dead = table[t].dead | some
    :: else -> table[t].rows = table[t].rows | some
    fi;
    some = 0;
    assert(!doubled)
}

inline end_of_insert() {
    S.place = GONE; S.late = 0; S.awaited = 0; S.dead = 0; S.repeat = 0; S.rows = 0; S.token = 0;
    has = 0
}

proctype Insert(byte s, r, t) {
    byte some, has;
    bool behind, operator;
end_insert:
    do
    :: d_step { S.place == WIRE && !is_late(S) ->
        S.place = RUNS; S.late = 0;
        printf("server: begins INSERT %d\n", s) }
    :: d_step { S.place == WIRE && is_late(S) -> /* insert_deadline_was_over() */
        if
        :: S.awaited && !S.repeat -> F.flight = READY; R.clock = 0; R.lease = 0
        :: S.awaited && S.repeat -> F.state = BEHIND; R.clock = 0; R.lease = 0
        :: else
        fi;
        end_of_insert();
        printf("server: refuses INSERT %d as late\n", s) }
    :: atomic { S.place == WIRE && !S.late && (!S.awaited || hostile) ->
        d_step {
            faults = (S.awaited -> faults - 1 : faults);
            S.late = 1;
            printf("server: the deadline of INSERT %d is over\n", s)
        } }
    /* It is executed, whole or in part; the answer arrives or is lost. */
    :: atomic { S.place == RUNS ->
        some = S.rows;
        if
        :: skip
        :: fault; S.awaited = 0; some = 0 /* it is killed, or the server dies */
#ifdef VIEW
        :: S.token != 0 && fault; S.awaited = 0; behind = true /* between the table and the view */
#else
        :: (S.rows & (S.rows - 1)) && fault; S.awaited = 0; some = S.rows & (S.rows - 1)
        :: (S.rows & (S.rows - 1)) && fault; S.awaited = 0; some = S.rows & ~(S.rows & (S.rows - 1))
#endif
        fi;
        d_step {
            printf("server: INSERT %d of rows (dead letters: %d) %d stores %d, answers: %d\n", s, S.dead, S.rows, some,
                S.awaited);
            store();
            if
            :: S.awaited && S.repeat -> F.owed = 0; F.state = ACTIVE
            :: S.awaited && S.dead -> stored()
            :: S.awaited && !S.dead && !S.repeat ->
                F.rows = 0; F.flight = READY;
#ifdef WITHOUT_DEAD_LETTERS_FIRST
                F.mark = F.next;
#endif
                if
                :: F.dead == 0 -> stored()
                :: else
                fi
            :: else
            fi;
            end_of_insert()
        } }

    /* It is refused, before anything is stored or (by a view) after the table has it. */
    :: atomic { S.place == RUNS && S.awaited && !S.dead && !S.repeat && fault;
        if
        :: some = 0
        :: some = S.rows
        fi;
        if
        :: operator = true
        :: operator = false
        fi;
        d_step {
#ifdef VIEW
            some = (token[S.token].in_table -> S.rows : some);
            behind = true;
#endif
            printf("server: refuses INSERT %d of rows %d, has %d, operator: %d\n", s, S.rows, some, operator);
            store();
            F.flight = READY;
            if
#ifdef VIEW
            :: has != 0 -> F.state = PAUSED /* parked: view_repeat_has_none() */
#endif
            :: operator -> drop(); F.state = PAUSED /* pause_table() */
            :: else -> /* rejected() */
                if
                :: S.rows & (S.rows - 1) -> drop()
                :: else -> /* note_refusal() */
#ifdef WITHOUT_READ_BACK_OF_REFUSAL
                    F.dead = F.dead | S.rows; F.rows = 0
#else
                    F.refused = F.refused | S.rows;
                    drop()
#endif
                fi
            fi;
            operator = false;
            end_of_insert()
        } }
    od
}

#if TABLES == 1
#define all_there ((table[0].rows | table[0].dead) == ALL)
#define others_idle true
#else
#define others_idle idle(4) && idle(5) && idle(6) && idle(7)
#define all_there ((table[0].rows | table[0].dead) == ALL && (table[1].rows | table[1].dead) == ALL)
#endif
#define idle(s) (sent[s].place == GONE)
#define all_committed (committed == END || (replica[0].owns && replica[0].known == END) || \
    (replica[1].owns && replica[1].known == END))

/* Nothing moves any more: the group has committed everything, and everything is there. */
proctype Audit() {
    bool lost, stuck;
    timeout;
    stuck = !(all_committed && idle(0) && idle(1) && idle(2) && idle(3) && others_idle);
    assert(!stuck);
    lost = !all_there;
#ifdef VIEW
    lost = lost || view != table[0].rows;
#endif
    assert(!lost)
}

init {
    atomic {
        replica[0].up = 1; replica[0].member = 1; replica[0].clock = 1; replica[0].good = 1;
        replica[1].up = 1; replica[1].member = 1; replica[1].clock = 1; replica[1].good = 1;
        owner = 1; replica[0].owns = 1;
        run Table(0, 0); run Table(1, 0);
        run Member(0); run Member(1); run Coordinator(0); run Coordinator(1);
#if TABLES == 1
        run Insert(0, 0, 0); run Insert(1, 0, 0); run Insert(2, 1, 0); run Insert(3, 1, 0);
#else
        run Table(0, 1); run Table(1, 1);
        run Insert(0, 0, 0); run Insert(1, 0, 0); run Insert(2, 0, 1); run Insert(3, 0, 1);
        run Insert(4, 1, 0); run Insert(5, 1, 0); run Insert(6, 1, 1); run Insert(7, 1, 1);
#endif
        run Audit()
    }
}
