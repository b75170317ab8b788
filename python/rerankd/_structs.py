# SPDX-License-Identifier: Apache-2.0
"""_structs.py - the structs of rerank.h for ctypes; a test compares them with the compiler's."""
import ctypes as c
from ctypes import (POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_size_t,
                    c_uint8, c_uint32, c_uint64, c_void_p)


class rr_text(Structure):
    _fields_ = [("data", c_void_p), ("len", c_size_t)]


class rr_error(Structure):
    _fields_ = [("code", c_int), ("msg", c_char * 508)]


class rr_shared_cache(Structure):
    _fields_ = [("url", c_char_p), ("password_file", c_char_p), ("ca_file", c_char_p),
                ("ttl_seconds", c_uint32), ("deadline_ns", c_uint64)]


class rr_options(Structure):
    _fields_ = [("struct_size", c_size_t), ("model", c_char_p), ("device", c_char_p),
                ("dtype", c_char_p), ("isa", c_char_p), ("fallback", c_bool), ("threads", c_uint32),
                ("prep_threads", c_uint32), ("max_length", c_uint32), ("batch_tokens", c_uint32),
                ("queue_tokens", c_size_t), ("queue_requests", c_size_t), ("queue_bytes", c_size_t),
                ("stall_ns", c_uint64), ("literal_specials", c_bool), ("cache_dir", c_char_p),
                ("cache_bytes", c_size_t), ("packed_cache", c_bool), ("rescore_dtype", c_char_p),
                ("drift", c_float), ("shared_cache", POINTER(rr_shared_cache)),
                ("devices", c_char_p)]


class rr_window(Structure):
    _fields_ = [("size", c_uint32), ("stride", c_uint32), ("pooling", c_int)]


class rr_request(Structure):
    _fields_ = [("query", rr_text), ("documents", POINTER(rr_text)), ("n_documents", c_size_t),
                ("max_length", c_uint32), ("no_truncate", c_bool), ("truncate_side", c_uint8),
                ("no_cache", c_bool), ("timeout_ns", c_uint64), ("allow_partial", c_bool),
                ("goes_on", c_bool), ("priority", c_int), ("tenant", c_uint64), ("exact_top_k", c_size_t),
                ("window", rr_window)]


class rr_score(Structure):
    _fields_ = [("score", c_double), ("logit", c_float), ("tokens", c_uint32), ("truncated", c_bool),
                ("rescored", c_bool), ("missing", c_bool), ("full_tokens", c_uint32),
                ("n_windows", c_uint32), ("window_start", c_uint32), ("window_end", c_uint32)]


class rr_timings(Structure):
    _fields_ = [("tokenize_ns", c_uint64), ("queue_ns", c_uint64), ("compute_ns", c_uint64),
                ("total_ns", c_uint64)]


class rr_result(Structure):
    _fields_ = [("n_documents", c_size_t), ("scores", POINTER(rr_score)), ("order", POINTER(c_uint32)),
                ("tokens", c_uint64), ("n_cached", c_size_t), ("n_duplicates", c_size_t),
                ("n_coalesced", c_size_t), ("n_rescored", c_size_t), ("n_missing", c_size_t),
                ("exact", c_bool), ("timings", rr_timings)]


class rr_info(Structure):
    _fields_ = [("model", c_char * 256), ("path", c_char * 1024), ("architecture", c_char * 64),
                ("device", c_char * 32), ("device_name", c_char * 128), ("isa", c_char * 32),
                ("dtype", c_char * 16), ("rescore_dtype", c_char * 16),
                ("weights_dtype", c_char * 16), ("activation", c_char * 16),
                ("fallback_active", c_bool), ("threads", c_uint32), ("prep_threads", c_uint32),
                ("layers", c_uint32), ("hidden", c_uint32), ("heads", c_uint32),
                ("intermediate", c_uint32), ("vocab", c_uint32), ("max_length", c_uint32),
                ("max_positions", c_uint32), ("batch_tokens", c_uint32), ("parameters", c_uint64),
                ("fingerprint", c_uint64), ("weights_bytes", c_uint64), ("mapped_bytes", c_uint64),
                ("workspace_bytes", c_uint64), ("host_weights_bytes", c_uint64),
                ("host_workspace_bytes", c_uint64)]


# The result is given as an address, to be freed as one.
rr_done_fn = c.CFUNCTYPE(None, c_void_p, c_void_p, POINTER(rr_error))

ALL = [rr_text, rr_error, rr_shared_cache, rr_options, rr_window, rr_request, rr_score, rr_timings,
       rr_result, rr_info]
