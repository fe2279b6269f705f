package mlxrt

// #include "callback.h"
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// C gets a pointer to a cgo.Handle as user_data. The functions behind the handles only send to a
// channel: they run no code of the user and do not panic.

type (
	sendToken    func(Token) bool
	sendProgress func(progress) bool
)

type progress struct{ done, total uint64 }

//export mlxrtGoToken
func mlxrtGoToken(userData unsafe.Pointer, token *C.mlxrt_go_token) C.int32_t {
	send := (*cgo.Handle)(userData).Value().(sendToken)
	text := ""
	if token.text_len > 0 { // the pointer of an empty text may be one that Go takes offence at
		text = C.GoStringN(token.text, C.int(token.text_len))
	}
	return boolInt(!send(Token{ID: int32(token.id), Text: text, Logprob: float32(token.logprob)}))
}

//export mlxrtGoProgress
func mlxrtGoProgress(userData unsafe.Pointer, done, total C.uint64_t) C.int32_t {
	send := (*cgo.Handle)(userData).Value().(sendProgress)
	return boolInt(!send(progress{uint64(done), uint64(total)}))
}
