package mlxrt

// #include <mlxrt.h>
import "C"

import "fmt"

// Version is the library's version, such as "0.1.0".
func Version() string { return C.GoString(C.mlxrt_version()) }

// BuildInfo says in one line what the library was built from, for people and bug reports.
func BuildInfo() string { return C.GoString(C.mlxrt_build_info()) }

// abiError is what every call reports when the library that was found at run time does not fit the
// header that this package was compiled with.
var abiError = checkABI(uint32(C.mlxrt_abi_version()))

func checkABI(loaded uint32) error {
	if loaded == C.MLXRT_ABI_VERSION {
		return nil
	}
	return &Error{ErrUnsupported, fmt.Sprintf(
		"the library found at run time (version %s) has binary interface %d, this program was compiled for %d: "+
			"rebuild it, or install the library that it was built with",
		Version(), loaded, int(C.MLXRT_ABI_VERSION))}
}
