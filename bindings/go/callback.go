package mlxrt

// #include "callback.h"
import "C"

import (
	"math"
	"runtime/cgo"
	"slices"
	"unsafe"
)

// C gets a pointer to a cgo.Handle as user_data. The functions behind the handles only send to a
// channel or append to a slice: they run no code of the user and do not panic.

type (
	sendProgress func(progress) bool
	addEntry     func(ModelEntry)
	addToken     func(index int, token Token)
	addClass     func(index int, found ClassifyResult)
)

type progress struct{ done, total uint64 }

//export mlxrtGoBatchToken
func mlxrtGoBatchToken(userData unsafe.Pointer, index C.size_t, token *C.mlxrt_go_token) C.int32_t {
	(*cgo.Handle)(userData).Value().(addToken)(int(index), goToken(token))
	return 0
}

//export mlxrtGoClassification
func mlxrtGoClassification(userData unsafe.Pointer, index C.size_t, found *C.mlxrt_go_classification) C.int32_t {
	result := ClassifyResult{Token: Token{ID: int32(found.token)}, Err: statusError(found.status)}
	if result.Err == nil {
		result.Token.Text = goString(found.text.data, found.text.len)
		result.Token.Logprob = float32(math.Log(float64(found.probability)))
		result.Logits = slices.Clone(unsafe.Slice((*float32)(found.logits), found.logit_count))
	}
	(*cgo.Handle)(userData).Value().(addClass)(int(index), result)
	return 0
}

//export mlxrtGoModelEntry
func mlxrtGoModelEntry(userData unsafe.Pointer, entry *C.mlxrt_go_model_entry) C.int32_t {
	add := (*cgo.Handle)(userData).Value().(addEntry)
	text := func(s C.mlxrt_string) string { return goString(s.data, s.len) }
	found := ModelEntry{
		Path:         text(entry.path),
		ID:           text(entry.id),
		Architecture: text(entry.architecture),
		DType:        DType(entry.dtype),
		DTypeName:    text(entry.dtype_name),
		QuantMode:    QuantMode(entry.quant_mode),
		QuantName:    text(entry.quant_name),
		QuantBits:    int(entry.quant_bits),
		QuantGroup:   int(entry.quant_group),
		ContextLen:   int(entry.context_length),
		WeightBytes:  uint64(entry.weight_bytes),
	}
	if status := Status(entry.status); status != statusOK {
		found.Problem = &Error{status, text(entry.problem)}
	}
	add(found)
	return 0
}

//export mlxrtGoProgress
func mlxrtGoProgress(userData unsafe.Pointer, done, total C.uint64_t) C.int32_t {
	send := (*cgo.Handle)(userData).Value().(sendProgress)
	return boolInt(!send(progress{uint64(done), uint64(total)}))
}
