//! Loading and running models. [`Model`] is what callers on any thread use; each has one engine
//! thread (`worker`) that owns everything of MLX. Requests go to it over a channel and tokens come
//! back over another, to the thread that asked; text, stop strings and callbacks are that thread's
//! work.

mod cancel;
mod chat;
mod checkpoint;
mod detokenizer;
pub mod gguf;
mod load;
mod model;
mod options;
mod sampler;
mod stop;
mod task;
mod threads;
mod tokenizer;
mod worker;

pub use cancel::Cancel;
pub use chat::{ChatTemplate, Message};
pub use detokenizer::Detokenizer;
pub use load::{LoadedModel, load_for_tests};
pub use model::{Finish, Model, Outcome, Summary, Token};
pub use options::{GenerateOptions, LoadOptions, ModelInfo, Sampling};
pub use sampler::Sampler;
pub use tokenizer::Tokenizer;
