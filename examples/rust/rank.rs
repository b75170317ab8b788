// SPDX-License-Identifier: Apache-2.0

//! Ranks three passages with librerank, through its C interface.
//!
//! rustc rank.rs -L LIBRARY_FOLDER -l rerank && ./rank models/starter

use std::ffi::{c_char, c_int, CStr, CString};
use std::ptr;

// The first fields of rr_options are all that is set here; the library writes the rest, and refuses
// a size that is not that of rerank.h.  bindgen makes all of this from the header.
const OPTIONS_BYTES: usize = 160;

#[repr(C, align(8))]
struct Options {
    struct_size: usize,
    model: *const c_char,
    rest: [u8; OPTIONS_BYTES - 16],
}

#[repr(C)]
struct Error {
    code: c_int,
    msg: [c_char; 508],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Text {
    data: *const u8,
    len: usize,
}

#[repr(C)]
struct Window {
    size: u32,
    stride: u32,
    pooling: c_int,
}

#[repr(C)]
struct Request {
    query: Text,
    documents: *const Text,
    n_documents: usize,
    max_length: u32,
    no_truncate: bool,
    truncate_side: u8,
    no_cache: bool,
    timeout_ns: u64,
    allow_partial: bool,
    priority: c_int,
    tenant: u64,
    exact_top_k: usize,
    window: Window,
}

#[repr(C)]
struct Score {
    score: f64,
    logit: f32,
    tokens: u32,
    flags: [bool; 3], // truncated, rescored, missing
    full_tokens: u32,
    n_windows: u32,
    window: [u32; 2],
}

#[repr(C)]
struct CResult {
    n_documents: usize,
    scores: *const Score,
    order: *const u32,
    // counts and timings follow; only the library makes this struct
}

#[link(name = "rerank")]
extern "C" {
    fn rr_options_init_sized(options: *mut Options, size: usize);
    fn rr_open(out: *mut *mut u8, options: *const Options, err: *mut Error) -> c_int;
    fn rr_close(engine: *mut u8);
    fn rr_score(
        engine: *mut u8, request: *const Request, out: *mut *mut CResult, err: *mut Error,
    ) -> c_int;
    fn rr_result_free(result: *mut CResult);
}

fn message(err: &Error) -> String {
    unsafe { CStr::from_ptr(err.msg.as_ptr()) }.to_string_lossy().into_owned()
}

/// A model that is open.  The library is thread-safe, so many threads may rank with one engine.
pub struct Engine(*mut u8);

unsafe impl Send for Engine {}
unsafe impl Sync for Engine {}

impl Engine {
    pub fn open(folder: &str) -> Result<Engine, String> {
        let name = CString::new(folder).map_err(|e| e.to_string())?;
        let mut options: Options = unsafe { std::mem::zeroed() };
        let mut err: Error = unsafe { std::mem::zeroed() };
        let mut engine = ptr::null_mut();

        unsafe { rr_options_init_sized(&mut options, OPTIONS_BYTES) };
        options.model = name.as_ptr();
        match unsafe { rr_open(&mut engine, &options, &mut err) } {
            0 => Ok(Engine(engine)),
            _ => Err(message(&err)),
        }
    }

    /// (place in the input, score), best first.
    pub fn rank(&self, query: &str, passages: &[&str]) -> Result<Vec<(usize, f64)>, String> {
        let text = |s: &str| Text { data: s.as_ptr(), len: s.len() };
        let texts: Vec<Text> = passages.iter().map(|p| text(p)).collect();
        let mut request: Request = unsafe { std::mem::zeroed() };
        let mut err: Error = unsafe { std::mem::zeroed() };
        let mut result = ptr::null_mut();

        request.query = text(query);
        request.documents = texts.as_ptr();
        request.n_documents = texts.len();
        if unsafe { rr_score(self.0, &request, &mut result, &mut err) } != 0 {
            return Err(message(&err));
        }
        let hits = unsafe {
            let r = &*result;
            let order = std::slice::from_raw_parts(r.order, r.n_documents);
            let scores = std::slice::from_raw_parts(r.scores, r.n_documents);
            order.iter().map(|&i| (i as usize, scores[i as usize].score)).collect()
        };
        unsafe { rr_result_free(result) };
        Ok(hits)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        unsafe { rr_close(self.0) }
    }
}

fn main() -> Result<(), String> {
    let passages = ["Le pain se fait avec de la farine.", "Paris est la capitale de la France.",
        "Lyon est une grande ville."];
    let folder = std::env::args().nth(1).unwrap_or("models/starter".into());
    let engine = Engine::open(&folder)?;

    for (index, score) in engine.rank("Quelle est la capitale de la France ?", &passages)? {
        println!("{:.4}  {}", score, passages[index]);
    }
    Ok(())
}
