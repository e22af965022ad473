// SPDX-License-Identifier: Apache-2.0
//
// From which row on a term reads. Runs on the outbox's own thread.
#ifndef RELAY_PUBLISH_PUBLISH_RESUME_H
#define RELAY_PUBLISH_PUBLISH_RESUME_H

#include "relay/publish/publish_pipe.h"

// The last step of a term's start: sets the watermark.
bool publish_resume(struct publish_pipe *pipe, struct relay_error *error);

#endif
