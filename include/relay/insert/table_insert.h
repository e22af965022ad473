// SPDX-License-Identifier: Apache-2.0
//
// One batch into its table: the rows, then the dead letters, under the lease, repeated as long as that can do no harm.
// A part of the table's worker, on its thread.
#ifndef RELAY_INSERT_TABLE_INSERT_H
#define RELAY_INSERT_TABLE_INSERT_H

#include "relay/insert/table_job.h"
#include "relay/insert/table_worker.h"

// Sets the job's verdict, and its error unless that is TABLE_DONE.
void table_insert(struct table_worker *worker, struct table_job *job);

#endif
