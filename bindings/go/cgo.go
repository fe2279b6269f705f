package mlxrt

// The only place with flags for the C compiler and linker. pkg-config finds the library: set
// PKG_CONFIG_PATH to the folder of mlxrt.pc if it lies elsewhere than the system's own.

// #cgo pkg-config: mlxrt
// #include <mlxrt.h>
import "C"

import "unsafe"

// stringData gives C the bytes of a string. They are valid as long as Go keeps the string alive,
// which it does for the arguments of a C call.
func stringData(s string) *C.char {
	if s == "" {
		return nil // an empty string has no bytes, and its pointer may be anything
	}
	return (*C.char)(unsafe.Pointer(unsafe.StringData(s)))
}

// goString copies text that C gives by pointer and length.
func goString(data *C.char, len C.size_t) string {
	if len == 0 { // the pointer of an empty text may be one that Go takes offence at
		return ""
	}
	return C.GoStringN(data, C.int(len))
}

// sliceData is stringData for a slice.
func sliceData[To, From any](s []From) *To {
	if len(s) == 0 {
		return nil
	}
	return (*To)(unsafe.Pointer(unsafe.SliceData(s)))
}

func boolInt(b bool) C.int32_t {
	if b {
		return 1
	}
	return 0
}
