package mlxrt

// #include "callback.h"
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// QuantMode is how quantised weights are stored.
type QuantMode int32

// The modes.
const (
	QuantNone   QuantMode = C.MLXRT_QUANT_NONE   // not quantised
	QuantAffine QuantMode = C.MLXRT_QUANT_AFFINE // integers with a scale and a bias a group
	QuantMXFP4  QuantMode = C.MLXRT_QUANT_MXFP4  // OCP microscaling: 4-bit floats
	QuantMXFP8  QuantMode = C.MLXRT_QUANT_MXFP8  // OCP microscaling: 8-bit floats
	QuantNVFP4  QuantMode = C.MLXRT_QUANT_NVFP4  // NVIDIA's 4-bit floats
)

// ConvertConfig is how to convert. Zero in any field means its default.
type ConvertConfig struct {
	Mode     QuantMode                // what weight matrices are stored in; QuantNone leaves them dense
	Bits     int                      // bits of a quantised weight; 0: 4, or 8 for QuantMXFP8
	Group    int                      // weights that share a scale; 0: 64 for QuantAffine, else the mode's own
	DType    DType                    // of what is not quantised; DTypeAuto: what config.json says
	Progress func(done, total uint64) // told of the bytes written so far and in all
}

// Convert reads the model folder source, whose weights are floating-point numbers, and writes the new
// folder destination with quantised ones, which Load and mlx-lm load. When ctx ends first, it stops
// with its error. The folder gets its name when it is complete; after an error nothing of it is left.
func Convert(ctx context.Context, source, destination string, config ConvertConfig) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var err error
	pump(ctx, func(ctx context.Context, send func(progress) bool) {
		err = convert(ctx, source, destination, config, send)
	}, func(p progress) bool {
		config.Progress(p.done, p.total)
		return true
	})
	return contextError(ctx, err)
}

func convert(ctx context.Context, source, destination string, config ConvertConfig, send sendProgress) error {
	cancel, err := newCanceller(ctx)
	if err != nil {
		return err
	}
	defer cancel.close()
	bits, err := toUint32("Bits", config.Bits)
	if err != nil {
		return err
	}
	group, err := toUint32("Group", config.Group)
	if err != nil {
		return err
	}
	options := C.mlxrt_convert_options{
		struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_convert_options{})),
		quant_mode:  C.int32_t(config.Mode),
		quant_bits:  bits,
		quant_group: group,
		dtype:       C.int32_t(config.DType),
		cancel:      cancel.handle,
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	if config.Progress != nil {
		told := cgo.NewHandle(send)
		defer told.Delete()
		pins.Pin(&told)
		options.progress = C.mlxrt_progress_callback(C.mlxrtGoProgress)
		options.user_data = unsafe.Pointer(&told)
	}
	return check(func() C.mlxrt_status {
		return C.mlxrt_model_convert(stringData(source), C.size_t(len(source)),
			stringData(destination), C.size_t(len(destination)), &options)
	})
}
