//! Loading and running models. [`Model`] is what callers on any thread use; each has one engine
//! thread (`worker`) that owns everything of MLX. Requests go to it over a channel and tokens come
//! back over another, to the thread that asked; text, stop strings and callbacks are that thread's
//! work.

mod cancel;
mod chat;
mod checkpoint;
mod convert;
mod detokenizer;
mod discover;
#[cfg(feature = "hub")]
mod download;
pub mod gguf;
mod hub;
mod jinja;
mod jinja_limits;
mod jinja_source;
mod load;
mod model;
mod options;
mod plain_text;
mod python_json;
mod safetensors_writer;
mod sampler;
mod stop;
mod task;
mod threads;
mod tokenizer;
mod worker;

pub use cancel::Cancel;
pub use chat::{ChatTemplate, Conversation};
pub use convert::{ConvertOptions, convert};
pub use detokenizer::Detokenizer;
pub use discover::{DiscoverOptions, ModelEntry, discover};
pub use hub::{HubCache, ModelId};
pub use load::{LoadedModel, load_for_tests};
pub use model::{Finish, Model, Outcome, Summary, Token};
pub use options::{GenerateOptions, LoadOptions, ModelInfo, Sampling};
pub use sampler::Sampler;
pub use tokenizer::{Encoding, Tokenizer};
