# SPDX-License-Identifier: Apache-2.0
"""Access rules in Kafka, by librdkafka's own functions: the Python client of Debian 12 has none for them."""
import ctypes

TOPIC, LITERAL, ALLOW = 2, 3, 3
READ, WRITE, DESCRIBE = 3, 4, 8
PRODUCER = 0
SECONDS = 30


def _library():
    library = ctypes.CDLL("librdkafka.so.1")
    pointer = ctypes.c_void_p
    for name, result, arguments in (
            ("rd_kafka_conf_new", pointer, []),
            ("rd_kafka_conf_set", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t]),
            ("rd_kafka_new", pointer, [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]),
            ("rd_kafka_destroy", None, [pointer]),
            ("rd_kafka_queue_new", pointer, [pointer]),
            ("rd_kafka_queue_destroy", None, [pointer]),
            ("rd_kafka_queue_poll", pointer, [pointer, ctypes.c_int]),
            ("rd_kafka_event_destroy", None, [pointer]),
            ("rd_kafka_event_error", ctypes.c_int, [pointer]),
            ("rd_kafka_event_CreateAcls_result", pointer, [pointer]),
            ("rd_kafka_CreateAcls_result_acls", ctypes.POINTER(pointer), [pointer, ctypes.POINTER(ctypes.c_size_t)]),
            ("rd_kafka_acl_result_error", pointer, [pointer]),
            ("rd_kafka_error_string", ctypes.c_char_p, [pointer]),
            ("rd_kafka_AclBinding_new", pointer, [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p,
                                                  ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t]),
            ("rd_kafka_AclBinding_destroy", None, [pointer]),
            ("rd_kafka_CreateAcls", None, [pointer, ctypes.POINTER(pointer), ctypes.c_size_t, pointer, pointer])):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def allow(bootstrap, topic, *operations):
    """Everybody may do these things with the topic. From its first rule on nothing else is allowed on it."""
    library = _library()
    why = ctypes.create_string_buffer(256)
    conf = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), why, len(why))
    client = library.rd_kafka_new(PRODUCER, conf, why, len(why))
    if not client:
        raise RuntimeError(f"a Kafka client: {why.value.decode()}")
    rules = [library.rd_kafka_AclBinding_new(TOPIC, topic.encode(), LITERAL, b"User:*", b"*", operation, ALLOW, why, len(why))
             for operation in operations]
    queue = library.rd_kafka_queue_new(client)
    library.rd_kafka_CreateAcls(client, (ctypes.c_void_p * len(rules))(*rules), len(rules), None, queue)
    event = library.rd_kafka_queue_poll(queue, SECONDS * 1000)
    try:
        _judge(library, event, topic)
    finally:
        if event:
            library.rd_kafka_event_destroy(event)
        for rule in rules:
            library.rd_kafka_AclBinding_destroy(rule)
        library.rd_kafka_queue_destroy(queue)
        library.rd_kafka_destroy(client)


def _judge(library, event, topic):
    if not event or library.rd_kafka_event_error(event):
        raise RuntimeError(f"no rule for {topic} was made")
    count = ctypes.c_size_t()
    made = library.rd_kafka_CreateAcls_result_acls(library.rd_kafka_event_CreateAcls_result(event), ctypes.byref(count))
    for number in range(count.value):
        error = library.rd_kafka_acl_result_error(made[number])
        if error:
            raise RuntimeError(f"a rule for {topic}: {library.rd_kafka_error_string(error).decode()}")
