//! Loading and running models. [`Model`] is what callers on any thread use; each has one engine
//! thread (`worker`) that owns everything of MLX. Requests go to it over a channel and tokens come
//! back over another, to the thread that asked; text, stop strings and callbacks are that thread's
//! work.

mod answer;
mod batch;
mod cancel;
mod chat;
mod checkpoint;
mod context;
mod convert;
mod detokenizer;
mod discover;
#[cfg(feature = "hub")]
mod download;
mod draw;
pub mod gguf;
mod hub;
mod jinja;
mod jinja_limits;
mod jinja_source;
mod kv_memory;
mod load;
mod logits;
mod model;
mod options;
mod plain_text;
mod prefix_cache;
mod prefix_store;
mod python_json;
mod request;
mod safetensors_writer;
mod sampler;
mod scheduler;
mod session;
mod session_file;
mod sessions;
mod stats;
mod stop;
mod stream;
mod task;
mod threads;
mod tokenizer;
mod worker;

pub use answer::{Finish, Outcome, Summary, Token};
pub use batch::Classification;
pub use cancel::Cancel;
pub use chat::{ChatTemplate, Conversation};
pub use convert::{ConvertOptions, convert};
pub use detokenizer::Detokenizer;
pub use discover::{DiscoverOptions, ModelEntry, discover};
pub use hub::{HubCache, ModelId};
pub use load::{LoadedModel, load_for_tests};
pub use model::Model;
pub use options::{GenerateOptions, LoadOptions, ModelInfo, Sampling, ServingOptions, check_ids};
pub use sampler::Sampler;
pub use session::Session;
pub use stats::ModelStats;
pub use stream::Stream;
pub use tokenizer::{Encoding, Tokenizer};
