"""Steers a text: steer.py LIBRARY MODEL CONTROLLER LAMBDA PROMPT. lambda goes to zero half way, while the text streams."""

import ctypes
import math
import sys
from ctypes import POINTER, byref, c_char, c_char_p, c_double, c_float, c_int32, c_size_t, c_void_p

TOKENS = 32
OnToken = ctypes.CFUNCTYPE(c_int32, c_void_p, c_int32, POINTER(c_char), c_size_t)


class Use(ctypes.Structure):
    _fields_ = [("controller", c_void_p), ("lambda_", c_double)]


def declare(lib):
    """The part of tiller.h that is used here."""
    lib.tiller_last_error.restype = c_char_p
    lib.tiller_model_load.argtypes = [c_char_p, c_char_p, c_int32, POINTER(c_void_p)]
    lib.tiller_controller_load.argtypes = [c_char_p, POINTER(c_void_p)]
    lib.tiller_tokenize.argtypes = [c_void_p, c_char_p, POINTER(c_int32), c_size_t, POINTER(c_size_t)]
    lib.tiller_session_create.argtypes = [c_void_p, c_void_p, POINTER(c_void_p)]
    lib.tiller_session_steer.argtypes = [c_void_p, POINTER(Use), c_size_t, c_float]
    lib.tiller_session_append.argtypes = [c_void_p, POINTER(c_int32), c_size_t]
    lib.tiller_session_stream.argtypes = [c_void_p, c_int32, OnToken, c_void_p, POINTER(c_int32)]
    for name in ["session", "controller", "model"]:
        free = getattr(lib, f"tiller_{name}_free")
        free.argtypes, free.restype = [c_void_p], None


def main(library, model_path, controller_path, strength, prompt):
    lib = ctypes.CDLL(library)
    declare(lib)

    def check(status):
        if status != 0:
            raise RuntimeError(f"error {status}: {lib.tiller_last_error().decode()}")

    model, controller, session = c_void_p(), c_void_p(), c_void_p()
    check(lib.tiller_model_load(model_path.encode(), b"cpu", 0, byref(model)))
    check(lib.tiller_controller_load(controller_path.encode(), byref(controller)))
    count = c_size_t()
    ids = (c_int32 * 256)()
    check(lib.tiller_tokenize(model, prompt.encode(), ids, len(ids), byref(count)))
    check(lib.tiller_session_create(model, None, byref(session)))
    check(lib.tiller_session_steer(session, byref(Use(controller, strength)), 1, math.inf))
    check(lib.tiller_session_append(session, ids, count))

    pieces = []

    @OnToken
    def on_token(user, token, text, length):
        pieces.append(text[:length])
        if len(pieces) == TOKENS // 2:
            check(lib.tiller_session_steer(session, None, 0, math.inf))
            pieces.append(b" |")
        return 0

    reason = c_int32()
    check(lib.tiller_session_stream(session, TOKENS, on_token, None, byref(reason)))
    print(b"".join(pieces).decode())
    lib.tiller_session_free(session)
    lib.tiller_controller_free(controller)
    lib.tiller_model_free(model)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit("usage: steer.py LIBRARY MODEL CONTROLLER LAMBDA PROMPT")
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), sys.argv[5])
