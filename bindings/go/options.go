package mlxrt

// LoadConfig is how to load a model. Zero in any field means its default.
type LoadConfig struct {
	Device     Device
	DType      DType                    // what dense weights are converted to and activations are computed in
	ContextLen int                      // most tokens of prompt and answer together; 0: as many as the model was made for
	Download   bool                     // whether a model that is not on this disk may be downloaded
	NoMmap     bool                     // read weights into memory even where they could stay in their files
	Exact      bool                     // multiply affine quantised matrices on the CPU in float32, without rounding inputs
	Threads    int                      // threads that compute on the CPU, for all models from now on; 0: as before
	Progress   func(done, total uint64) // told of the bytes of weights read so far and in all

	MaxConcurrent int // most requests that are computed together; further ones wait; 0: 32
	MaxQueue      int // most requests that may wait; further ones end with ErrBusy; 0: 1024

	KVBudget       uint64 // bytes that requests and idle sessions may take for keys and values; 0: half of the device's memory
	PrefixCache    uint64 // most bytes kept besides of prompts that were computed; 0: an eighth of the budget
	PrefixCacheDir string // a folder where the prefix cache stays for the next process; empty: it is forgotten
	NoPrefixCache  bool   // nothing is kept of prompts that were computed
	KVBits         int    // bits of a stored key or value, 8 or 4; 0: as they are computed
	RotateContext  bool   // go on when the context is full
	KeepTokens     int    // how many of the first tokens stay in a context that rotates
}

// LoadOption changes a LoadConfig.
type LoadOption func(*LoadConfig)

// WithDevice chooses what to compute on.
func WithDevice(device Device) LoadOption { return func(c *LoadConfig) { c.Device = device } }

// WithDType chooses the type to compute in.
func WithDType(dtype DType) LoadOption { return func(c *LoadConfig) { c.DType = dtype } }

// WithContextLen limits the tokens of prompt and answer together.
func WithContextLen(tokens int) LoadOption { return func(c *LoadConfig) { c.ContextLen = tokens } }

// WithDownload lets a model that is neither a path nor whole in the Hugging Face cache be downloaded
// into that cache, if the library was built with downloads.
func WithDownload() LoadOption { return func(c *LoadConfig) { c.Download = true } }

// WithNoMmap reads weights into memory even where they could stay in their files. A mapped file must
// not be shortened while the model is loaded.
func WithNoMmap() LoadOption { return func(c *LoadConfig) { c.NoMmap = true } }

// WithExact multiplies affine quantised matrices on the CPU in float32. By default the input of such a
// product is rounded to 8-bit integers, with a scale for every 32 of a row, which is faster.
func WithExact() LoadOption { return func(c *LoadConfig) { c.Exact = true } }

// WithThreads sets how many threads compute on the CPU, at most 1024. They are the process's: all models
// use this many until another is loaded with a number of its own. At first there is one for each physical
// core that the process may use.
func WithThreads(count int) LoadOption { return func(c *LoadConfig) { c.Threads = count } }

// WithMaxConcurrent limits how many requests are computed together; further ones wait.
func WithMaxConcurrent(requests int) LoadOption {
	return func(c *LoadConfig) { c.MaxConcurrent = requests }
}

// WithMaxQueue limits how many requests may wait; further ones end with ErrBusy.
func WithMaxQueue(requests int) LoadOption { return func(c *LoadConfig) { c.MaxQueue = requests } }

// WithKVBudget limits the bytes that requests and idle sessions may take for keys and values. A request that
// does not fit beside the others waits; one that could not fit alone ends with ErrOutOfMemory.
func WithKVBudget(bytes uint64) LoadOption { return func(c *LoadConfig) { c.KVBudget = bytes } }

// WithPrefixCache limits the bytes that are kept of prompts that were computed, besides the budget, so that
// prompts which begin alike share that. Those used longest ago go first.
func WithPrefixCache(bytes uint64) LoadOption { return func(c *LoadConfig) { c.PrefixCache = bytes } }

// WithPrefixCacheDir keeps the prefix cache in a folder when the model is closed, for the next process.
func WithPrefixCacheDir(path string) LoadOption {
	return func(c *LoadConfig) { c.PrefixCacheDir = path }
}

// WithoutPrefixCache keeps nothing of prompts that were computed.
func WithoutPrefixCache() LoadOption { return func(c *LoadConfig) { c.NoPrefixCache = true } }

// WithKVBits stores keys and values quantised, in 8 or 4 bits.
func WithKVBits(bits int) LoadOption { return func(c *LoadConfig) { c.KVBits = bits } }

// WithRotatingContext lets generation go on when the context is full: the first keep tokens and the most
// recent ones are then remembered, ContextLen in all, and the others forgotten.
func WithRotatingContext(keep int) LoadOption {
	return func(c *LoadConfig) { c.RotateContext, c.KeepTokens = true, keep }
}

// WithProgress has a function told of the bytes of weights read so far and in all, on the goroutine
// that called Load; of a download before that, which begins anew at 0 for the weights. To stop loading,
// end the context.
func WithProgress(told func(done, total uint64)) LoadOption {
	return func(c *LoadConfig) { c.Progress = told }
}

// GenerateConfig is how to generate. Zero in any field means its default.
type GenerateConfig struct {
	MaxTokens     int      // most tokens to generate; 0: 256
	Temperature   float32  // 0: the most likely token is taken, without sampling
	TopK          int      // sample from this many most likely tokens only; 0: from all
	TopP          float32  // sample from the most likely tokens that together reach this probability; 0 or 1: from all
	MinP          float32  // leave out tokens less likely than this times the most likely one
	StopTokens    []int32  // end the answer besides the model's own, and are not part of it
	StopStrings   []string // end the answer; neither they nor what follows is part of it
	RepeatPenalty float32  // makes recent tokens less likely; 0 or 1: off
	RepeatWindow  int      // how many recent tokens the penalty looks at, the prompt's included; 0: 64
	Seed          uint64   // the same seed gives the same tokens; 0: another one each time
	IgnoreEnd     bool     // don't stop at the model's end-of-turn tokens
	NoSpecial     bool     // don't add the tokenizer's own special tokens to a prompt
	PlainText     bool     // read special tokens as text where prompt, messages, tools or variables hold them

	Session *Session   // the conversation to go on from; nil: the prompt stands alone
	Chat    ChatConfig // for Chat and StreamChat

	ReturnLogits bool    // for Classify: the logits of the whole vocabulary are wanted
	Labels       []int32 // for Classify: the logits of these ids are wanted, in this order
}

// ChatConfig is what a conversation has besides messages. Its strings are JSON and may be empty.
// Templates see the keys of objects in the order in which they are written.
type ChatConfig struct {
	// Messages stands in place of the call's messages: a list of objects as OpenAI's interface has
	// them, with "role", "content", and what else the template knows, such as "tool_calls",
	// "tool_call_id" and "reasoning_content".
	Messages  string
	Tools     string // a list of tools that the model may call, as OpenAI's interface has them
	Variables string // an object of further variables for the template, such as {"enable_thinking": false}

	NoGenerationPrompt bool // the text doesn't end where the assistant's answer begins
}

// GenerateOption changes a GenerateConfig.
type GenerateOption func(*GenerateConfig)

// WithMaxTokens limits the tokens to generate.
func WithMaxTokens(n int) GenerateOption { return func(c *GenerateConfig) { c.MaxTokens = n } }

// WithTemperature makes the answer more varied; 0 takes the most likely token.
func WithTemperature(t float32) GenerateOption { return func(c *GenerateConfig) { c.Temperature = t } }

// WithTopK samples from the k most likely tokens only.
func WithTopK(k int) GenerateOption { return func(c *GenerateConfig) { c.TopK = k } }

// WithTopP samples from the most likely tokens that together reach probability p.
func WithTopP(p float32) GenerateOption { return func(c *GenerateConfig) { c.TopP = p } }

// WithMinP leaves out tokens less likely than p times the most likely one.
func WithMinP(p float32) GenerateOption { return func(c *GenerateConfig) { c.MinP = p } }

// WithStopTokens ends the answer at any of these tokens.
func WithStopTokens(ids ...int32) GenerateOption {
	return func(c *GenerateConfig) { c.StopTokens = ids }
}

// WithStopStrings ends the answer before any of these strings.
func WithStopStrings(texts ...string) GenerateOption {
	return func(c *GenerateConfig) { c.StopStrings = texts }
}

// WithRepeatPenalty makes recent tokens less likely: above 1, such as 1.1.
func WithRepeatPenalty(p float32) GenerateOption {
	return func(c *GenerateConfig) { c.RepeatPenalty = p }
}

// WithRepeatWindow sets how many recent tokens the penalty looks at.
func WithRepeatWindow(tokens int) GenerateOption {
	return func(c *GenerateConfig) { c.RepeatWindow = tokens }
}

// WithSeed makes sampling repeatable.
func WithSeed(seed uint64) GenerateOption { return func(c *GenerateConfig) { c.Seed = seed } }

// WithIgnoreEnd goes on past the model's end-of-turn tokens.
func WithIgnoreEnd() GenerateOption { return func(c *GenerateConfig) { c.IgnoreEnd = true } }

// WithPlainText reads special tokens as text where the prompt, or the messages, tools and variables of
// a conversation hold them: for words of people you don't trust.
func WithPlainText() GenerateOption { return func(c *GenerateConfig) { c.PlainText = true } }

// WithSession goes on from a session of the same model. What Generate and Stream are given then stands
// behind the session's tokens. The messages of Chat and StreamChat are the whole conversation: what of it
// the session holds is not computed again, and what it holds besides is forgotten. Afterwards the session
// holds the prompt and the answer, without the token that ended it. Not for batches and Classify.
func WithSession(session *Session) GenerateOption {
	return func(c *GenerateConfig) { c.Session = session }
}

// WithChat gives a conversation tools and variables, or messages with more than role and content.
func WithChat(chat ChatConfig) GenerateOption { return func(c *GenerateConfig) { c.Chat = chat } }

// WithLogits has Classify return the logits of the whole vocabulary.
func WithLogits() GenerateOption { return func(c *GenerateConfig) { c.ReturnLogits = true } }

// WithLabels has Classify return the logits of these ids, in this order.
func WithLabels(ids ...int32) GenerateOption { return func(c *GenerateConfig) { c.Labels = ids } }

// WithNoSpecial gives the model a prompt without the tokenizer's own special tokens.
func WithNoSpecial() GenerateOption { return func(c *GenerateConfig) { c.NoSpecial = true } }
