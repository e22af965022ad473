// SPDX-License-Identifier: Apache-2.0
//
// What a table's worker asks of its table: what it looks like, and which offsets it has. Repeated with growing pauses
// until it succeeds, the job is given up, or somebody has to act. A part of the table's worker, on its thread.
#ifndef RELAY_INSERT_TABLE_READING_H
#define RELAY_INSERT_TABLE_READING_H

#include "relay/insert/table_job.h"
#include "relay/insert/table_worker.h"

// Both set the job's verdict, and its error unless that is TABLE_DONE.
void table_reading_open(struct table_worker *worker, struct table_job *job);
void table_reading_back(struct table_worker *worker, struct table_job *job);

#endif
