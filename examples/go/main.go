// SPDX-License-Identifier: Apache-2.0

// Ranks three passages with librerank, through cgo.
//
//	go run main.go models/starter
package main

/*
#cgo pkg-config: rerank
#include <stdlib.h>
#include <string.h>
#include "rerank.h"

// cgo may not pass Go memory that holds pointers: the array of texts is made here.
static struct rr_text *make_texts(size_t n) { return calloc(n, sizeof(struct rr_text)); }
static void set_text(struct rr_text *texts, size_t i, const char *data, size_t len)
{
    texts[i].data = data;
    texts[i].len = len;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"unsafe"
)

// Engine is a model that is open; Close it.
type Engine struct{ c *C.struct_rr_engine }

// Open loads the model in folder.
func Open(folder string) (*Engine, error) {
	var options C.struct_rr_options
	var engine *C.struct_rr_engine
	var failure C.struct_rr_error

	name := C.CString(folder)
	defer C.free(unsafe.Pointer(name))
	C.rr_options_init(&options)
	options.model = name
	if C.rr_open(&engine, &options, &failure) != C.RR_OK {
		return nil, errors.New(C.GoString(&failure.msg[0]))
	}
	return &Engine{engine}, nil
}

// Close finishes what was accepted and frees the model.
func (e *Engine) Close() { C.rr_close(e.c) }

// Hit is one passage: its place in the input, and its score.
type Hit struct {
	Index int
	Score float64
}

// Rank returns the passages best first.  It may be called from many goroutines at once.
func (e *Engine) Rank(query string, passages []string) ([]Hit, error) {
	var request C.struct_rr_request
	var result *C.struct_rr_result
	var failure C.struct_rr_error

	if len(passages) == 0 {
		return nil, nil
	}
	text := C.CString(query)
	defer C.free(unsafe.Pointer(text))
	texts := C.make_texts(C.size_t(len(passages)))
	defer C.free(unsafe.Pointer(texts))
	for i, p := range passages {
		copied := C.CString(p)
		defer C.free(unsafe.Pointer(copied))
		C.set_text(texts, C.size_t(i), copied, C.size_t(len(p)))
	}
	request.query = C.struct_rr_text{data: text, len: C.size_t(len(query))}
	request.documents = texts
	request.n_documents = C.size_t(len(passages))
	if C.rr_score(e.c, &request, &result, &failure) != C.RR_OK {
		return nil, errors.New(C.GoString(&failure.msg[0]))
	}
	defer C.rr_result_free(result)
	order := unsafe.Slice(result.order, len(passages))
	scores := unsafe.Slice(result.scores, len(passages))
	hits := make([]Hit, len(passages))
	for i, best := range order {
		hits[i] = Hit{int(best), float64(scores[best].score)}
	}
	return hits, nil
}

func main() {
	passages := []string{"Le pain se fait avec de la farine.", "Paris est la capitale de la France.",
		"Lyon est une grande ville."}
	folder := "models/starter"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	engine, err := Open(folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer engine.Close()
	hits, err := engine.Rank("Quelle est la capitale de la France ?", passages)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, h := range hits {
		fmt.Printf("%.4f  %s\n", h.Score, passages[h.Index])
	}
}
