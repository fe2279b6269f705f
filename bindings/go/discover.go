package mlxrt

// #include "callback.h"
import "C"

import (
	"context"
	"runtime"
	"runtime/cgo"
	"unsafe"
)

// ModelEntry is a model that was found, or what looks like one and cannot be run.
type ModelEntry struct {
	Path         string    // what loads it: its folder, or its .gguf file
	ID           string    // what loads it as well if the Hugging Face cache has it: "org/name", perhaps with "@commit"
	Architecture string    // model_type of config.json, such as "qwen3", or what it is called there of a .gguf file
	DType        DType     // of dense weights by config.json; DTypeAuto: it says none, or another one
	DTypeName    string    // the same in config.json's words, such as "bfloat16"
	QuantMode    QuantMode // how weights are quantised; QuantNone: they are not, or in another way
	QuantName    string    // the same in config.json's words, such as "affine" or "gptq"; empty: they are not
	QuantBits    int       // bits of a quantised weight; 0: not quantised or not said
	QuantGroup   int       // weights that share a scale; 0: not quantised or not said
	ContextLen   int       // most tokens of prompt and answer together; 0: config.json does not say
	WeightBytes  uint64    // of the files with its weights
	Problem      error     // why it cannot be run; nil: it can, as far as that can be told without reading weights
}

// DiscoverConfig is where to look for models. Zero in any field means its default.
type DiscoverConfig struct {
	MaxDepth     int  // how many folders deep to look below the first one; 0: 16
	IncludeCache bool // look into the Hugging Face cache too, after the folder
}

// DiscoverOption changes a DiscoverConfig.
type DiscoverOption func(*DiscoverConfig)

// WithMaxDepth limits how deep to look.
func WithMaxDepth(folders int) DiscoverOption {
	return func(c *DiscoverConfig) { c.MaxDepth = folders }
}

// WithCache looks into the Hugging Face cache too.
func WithCache() DiscoverOption { return func(c *DiscoverConfig) { c.IncludeCache = true } }

// Discover lists the models in a folder and below it, in the order of their paths; those in the Hugging
// Face cache where the folder is "". No weights are read. What is broken, incomplete or unreadable is
// listed with its Problem. When ctx ends first, its error and what was found until then is returned.
func Discover(ctx context.Context, folder string, opts ...DiscoverOption) ([]ModelEntry, error) {
	var config DiscoverConfig
	for _, opt := range opts {
		opt(&config)
	}
	depth, err := toUint32("MaxDepth", config.MaxDepth)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	cancel, err := newCanceller(ctx)
	if err != nil {
		return nil, err
	}
	defer cancel.close()
	options := C.mlxrt_discover_options{
		struct_size:   C.size_t(unsafe.Sizeof(C.mlxrt_discover_options{})),
		max_depth:     depth,
		include_cache: boolInt(config.IncludeCache),
		cancel:        cancel.handle,
	}
	var found []ModelEntry
	told := cgo.NewHandle(addEntry(func(entry ModelEntry) { found = append(found, entry) }))
	defer told.Delete()
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&told)
	err = check(func() C.mlxrt_status {
		return C.mlxrt_discover(stringData(folder), C.size_t(len(folder)), &options,
			C.mlxrt_discover_callback(C.mlxrtGoModelEntry), unsafe.Pointer(&told))
	})
	return found, contextError(ctx, err)
}
