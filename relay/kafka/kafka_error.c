// SPDX-License-Identifier: Apache-2.0
#include "relay/kafka/kafka_error.h"

#include <stdio.h>
#include <string.h>

enum relay_error_code kafka_error_code(rd_kafka_resp_err_t code)
{
    switch ((int)code) {
    case RD_KAFKA_RESP_ERR_NO_ERROR: return RELAY_ERROR_NONE;

    case RD_KAFKA_RESP_ERR__TRANSPORT:
    case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
    case RD_KAFKA_RESP_ERR__RESOLVE:
    case RD_KAFKA_RESP_ERR__TIMED_OUT:
    case RD_KAFKA_RESP_ERR__MSG_TIMED_OUT: return RELAY_ERROR_KAFKA_UNREACHABLE;

    case RD_KAFKA_RESP_ERR__AUTHENTICATION:
    case RD_KAFKA_RESP_ERR__SSL:
    case RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE:
    case RD_KAFKA_RESP_ERR__INVALID_ARG:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM:
    case RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE:
    case RD_KAFKA_RESP_ERR_SECURITY_DISABLED:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT:
    case RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE:
    case RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT:
    case RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS:
    case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
    case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP: // a clock, or the topic's setting
    case RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL: return RELAY_ERROR_KAFKA_OPERATOR;

    case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE:
    case RD_KAFKA_RESP_ERR_INVALID_MSG:
    case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
    case RD_KAFKA_RESP_ERR_INVALID_RECORD: return RELAY_ERROR_KAFKA_POISON;

    case RD_KAFKA_RESP_ERR__FENCED:
    case RD_KAFKA_RESP_ERR_PRODUCER_FENCED:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH:
    case RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID: return RELAY_ERROR_KAFKA_FENCED;

    case RD_KAFKA_RESP_ERR__FATAL:
    case RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER:
    case RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID:
    case RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING:
    case RD_KAFKA_RESP_ERR__STATE: return RELAY_ERROR_KAFKA_FATAL;

    case RD_KAFKA_RESP_ERR__PURGE_INFLIGHT:
    case RD_KAFKA_RESP_ERR__PURGE_QUEUE: return RELAY_ERROR_KAFKA_ABORTED;

    default: return RELAY_ERROR_KAFKA_RETRIABLE;
    }
}

bool kafka_error_set(struct relay_error *error, rd_kafka_resp_err_t code, const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    const char *words = rd_kafka_err2str(code);
    size_t length = strlen(what), tail = strlen(words);
    bool has_them = length >= tail && strcmp(what + length - tail, words) == 0;
    return error_set_detail(error, kafka_error_code(code), (int)code, "%s%s%s (%s)", what, has_them ? "" : ": ",
        has_them ? "" : words, rd_kafka_err2name(code));
}

bool kafka_error_take(struct relay_error *error, rd_kafka_error_t *object, const char *what)
{
    if (object == NULL) {
        return true;
    }
    rd_kafka_resp_err_t response = rd_kafka_error_code(object);
    enum relay_error_code code = kafka_error_code(response);
    if (code != RELAY_ERROR_KAFKA_FENCED && rd_kafka_error_is_fatal(object)) {
        code = RELAY_ERROR_KAFKA_FATAL;
    } else if (rd_kafka_error_txn_requires_abort(object)) {
        code = RELAY_ERROR_KAFKA_ABORTED;
    }
    error_set_detail(error, code, (int)response, "%s: %s (%s)", what, rd_kafka_error_string(object),
        rd_kafka_error_name(object));
    rd_kafka_error_destroy(object);
    return false;
}

void kafka_error_steady(char *text, size_t room, const char *said)
{
    const char *thread = strncmp(said, "[thrd:", 6) == 0 ? strstr(said, "]: ") : NULL;
    const char *from = thread == NULL ? said : thread + 3;
    const char *after = strstr(from, " (after ");
    size_t length = after == NULL ? strlen(from) : (size_t)(after - from);
    snprintf(text, room, "%.*s", (int)(length < room ? length : room), from);
}
