package mlxrt

// #include <mlxrt.h>
import "C"

import (
	"time"
	"unsafe"
)

// Stats is what a model is doing, and sums since it was loaded.
type Stats struct {
	Waiting            int           // requests that wait to be begun with
	Running            int           // requests under way
	Steps              uint64        // computed; a step has the next token of every answer and a part of the prompts
	Tokens             uint64        // that the model was run on: Tokens / Steps is how many share a step
	StepDuration       time.Duration // spent in steps
	EvaluationDuration time.Duration // the part of it in which MLX evaluated
}

// Stats tells what the model is doing, without waiting for it: as of its last step.
func (m *Model) Stats() (Stats, error) {
	stats := C.mlxrt_stats{struct_size: C.size_t(unsafe.Sizeof(C.mlxrt_stats{}))}
	if err := m.use(func(h *C.mlxrt_model) C.mlxrt_status { return C.mlxrt_model_stats(h, &stats) }); err != nil {
		return Stats{}, err
	}
	return Stats{
		Waiting:            int(stats.waiting),
		Running:            int(stats.running),
		Steps:              uint64(stats.steps),
		Tokens:             uint64(stats.tokens),
		StepDuration:       seconds(stats.step_seconds),
		EvaluationDuration: seconds(stats.evaluation_seconds),
	}, nil
}
