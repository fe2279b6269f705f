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
	EvaluationDuration time.Duration // the part of it in which the model was computed
	Sessions           int           // that hold tokens or are in use
	PrefixEntries      int           // prompts that the prefix cache holds
	PrefixBytes        uint64        // bytes that it holds
	KVBytes            uint64        // for keys and values that running requests may come to take
	KVBudgetBytes      uint64        // that requests and idle sessions may take
	PromptTokens       uint64        // of all prompts that were begun with
	CachedTokens       uint64        // those of them that a session or the prefix cache had
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
		Sessions:           int(stats.sessions),
		PrefixEntries:      int(stats.prefix_entries),
		PrefixBytes:        uint64(stats.prefix_bytes),
		KVBytes:            uint64(stats.kv_bytes),
		KVBudgetBytes:      uint64(stats.kv_budget_bytes),
		PromptTokens:       uint64(stats.prompt_tokens),
		CachedTokens:       uint64(stats.cached_tokens),
	}, nil
}
