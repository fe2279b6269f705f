//! The model as callers on any thread see it.

use super::chat::{ChatTemplate, Conversation};
use super::detokenizer::Detokenizer;
use super::load::read_config;
use super::options::{GenerateOptions, LoadOptions, ModelInfo, check_ids};
use super::stop::StopStrings;
use super::task::{Event, Request, Shared};
use super::threads::Running;
use super::worker::{self, Command, Loading, Worker};
use super::{Cancel, Tokenizer, gguf, hub};
use crate::error::{Error, Result};
use crate::mlx::memory;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long a caller sleeps between looks at its cancel handle. The engine looks too, but may be in
/// the middle of somebody else's prompt.
const CANCEL_POLL: Duration = Duration::from_millis(5);

/// A loaded model. Dropping it ends what it does and frees its memory.
pub struct Model {
    info: ModelInfo,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    commands: Sender<Command>,
    closing: Arc<Cancel>,
    running: Mutex<Option<Running>>,
}

/// A generated token with the text it completes.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// `None` for text that was held back and comes with no token of its own.
    pub id: Option<i32>,
    /// Natural logarithm of the token's probability, before temperature and filters.
    pub logprob: f32,
    /// Whole UTF-8, perhaps empty.
    pub text: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn with this token, or it is one of the caller's stop tokens.
    End(i32),
    /// As many tokens as asked for.
    Length,
    /// A stop string came.
    StopString,
    /// The callback asked to stop.
    Callback,
    /// The context is full.
    Context,
}

/// What a request took.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct Summary {
    pub prompt_tokens: u32,
    pub generated_tokens: u32,
    /// Until the first token.
    pub prefill: Duration,
    /// From the first token to the last.
    pub decode: Duration,
    pub total: Duration,
    /// Bytes, of the process.
    pub peak_memory: usize,
    pub active_memory: usize,
}

/// How a request ended, and what it took until then.
#[derive(Debug)]
pub struct Outcome {
    /// The reason, or the error.
    pub end: Result<Finish>,
    /// The figures.
    pub summary: Summary,
}

impl Model {
    /// Loads a model: from a folder or a GGUF file, or by its id from the Hugging Face cache, or after a
    /// download. `progress` is told bytes done and in all, of the download and then of the weights, on
    /// the calling thread; false stops.
    pub fn load(
        path: &Path,
        options: LoadOptions,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Self> {
        if options.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered()) {
            return Err(Error::Cancelled);
        }
        let path = &*hub::locate(path, &options, progress)?;
        let gguf = gguf::Model::open_if(path)?.map(Arc::new);
        if gguf.is_none() && !path.is_dir() {
            return Err(Error::NotFound(format!("{}: neither a folder nor a GGUF file", path.display())));
        }
        let config = read_config(path, gguf.as_deref())?;
        // An unknown architecture is told before a large tokenizer is read.
        crate::models::find(&config)?;
        let cancel = options.cancel.clone();
        let worker = worker::start(path.to_path_buf(), gguf.clone(), config, options)?;
        // While the other thread reads weights, this one reads the tokenizer.
        let text = match &gguf {
            Some(gguf) => gguf.text(),
            None => Tokenizer::load(path)
                .and_then(|tokenizer| Ok((ChatTemplate::load(path, &tokenizer)?, tokenizer))),
        };
        let loaded = match text {
            Ok(text) => wait_for(&worker, cancel.as_deref(), progress).map(|info| (info, text)),
            Err(error) => Err(error),
        };
        let Worker { commands, closing, running, .. } = worker;
        match loaded {
            Ok((info, (template, tokenizer))) => {
                let info = ModelInfo { has_chat_template: template.is_some(), ..info };
                let running = Mutex::new(Some(running));
                Ok(Model { info, tokenizer, template, commands, closing, running })
            }
            Err(error) => {
                closing.trigger();
                let _ = commands.send(Command::Wake);
                running.wait();
                Err(error)
            }
        }
    }

    /// What the model says of itself.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The text of a conversation, through the chat template.
    pub fn render_chat(&self, conversation: &Conversation) -> Result<String> {
        self.template()?.render(conversation)
    }

    /// The ids of that text, see [`ChatTemplate::encode`].
    pub fn tokenize_chat(&self, conversation: Conversation, plain_text: bool) -> Result<Vec<i32>> {
        self.template()?.encode(&self.tokenizer, conversation, plain_text)
    }

    fn template(&self) -> Result<&ChatTemplate> {
        self.template.as_ref().ok_or_else(|| {
            Error::Unsupported(
                "the model has no chat template (chat_template.jinja, or tokenizer_config.json's)".into(),
            )
        })
    }

    /// Ends everything under way with [`Error::Closed`], frees the model and waits until it is gone.
    pub fn close(&self) {
        self.closing.trigger();
        let _ = self.commands.send(Command::Wake);
        if let Some(running) = self.running.lock().take() {
            running.wait();
        }
    }

    /// Generates after a prompt of ids. `on_token` runs on the calling thread; false stops.
    pub fn generate(
        &self,
        prompt: Vec<i32>,
        options: GenerateOptions,
        on_token: &mut dyn FnMut(&Token) -> bool,
    ) -> Outcome {
        let started = Instant::now();
        let mut summary = Summary { prompt_tokens: prompt.len() as u32, ..Default::default() };
        let end = self.run(prompt, options, on_token, &mut summary, started);
        summary.total = started.elapsed();
        summary.peak_memory = memory::peak().unwrap_or(0);
        summary.active_memory = memory::active().unwrap_or(0);
        Outcome { end, summary }
    }

    fn run(
        &self,
        prompt: Vec<i32>,
        options: GenerateOptions,
        on_token: &mut dyn FnMut(&Token) -> bool,
        summary: &mut Summary,
        started: Instant,
    ) -> Result<Finish> {
        options.check(self.info.vocab_size)?;
        check_ids("the prompt", &prompt, self.info.vocab_size)?;
        if prompt.is_empty() {
            return Err(Error::BadArgument("the prompt is empty".into()));
        }
        let context_length = self.info.context_length as usize;
        if prompt.len() >= context_length {
            return Err(Error::ContextFull(format!(
                "the prompt has {} tokens and leaves no room in a context of {context_length}",
                prompt.len()
            )));
        }
        let (events_sender, events) = channel();
        let shared = Arc::new(Shared::default());
        let mut end_ids = options.stop_tokens.clone();
        if !options.ignore_end {
            end_ids.extend(self.tokenizer.end_ids());
        }
        let mut listener = Listener {
            model: self,
            events,
            shared: shared.clone(),
            cancel: options.cancel.clone(),
            detokenizer: Detokenizer::new(&self.tokenizer, true),
            stops: StopStrings::new(options.stop_strings.clone()),
        };
        let request = Request { prompt, options, end_ids, context_length, events: events_sender, shared };
        self.commands.send(Command::Generate(request)).map_err(|_| Error::Closed)?;
        listener.listen(on_token, summary, started)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.close();
    }
}

fn wait_for(
    worker: &Worker,
    cancel: Option<&Cancel>,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<ModelInfo> {
    loop {
        match worker.loading.recv() {
            Ok(Loading::Progress(done, total)) if progress(done, total) => {}
            Ok(Loading::Progress(..)) => return Err(Error::Cancelled),
            // Mapped weights are there before the first progress is told.
            Ok(Loading::Ready(_)) if cancel.is_some_and(Cancel::is_triggered) => {
                return Err(Error::Cancelled);
            }
            Ok(Loading::Ready(info)) => return Ok(info),
            Ok(Loading::Failed(error)) => return Err(error),
            Err(_) => return Err(Error::Internal("the engine thread ended while loading".into())),
        }
    }
}

/// The caller's side of a request under way.
struct Listener<'a> {
    model: &'a Model,
    events: Receiver<Event>,
    shared: Arc<Shared>,
    cancel: Option<Arc<Cancel>>,
    detokenizer: Detokenizer<'a>,
    stops: StopStrings,
}

impl Listener<'_> {
    fn listen(
        &mut self,
        on_token: &mut dyn FnMut(&Token) -> bool,
        summary: &mut Summary,
        started: Instant,
    ) -> Result<Finish> {
        let mut first = None;
        loop {
            let event = self.next_event()?;
            let now = Instant::now();
            if matches!(event, Event::Token { .. } | Event::End(Ok(Finish::End(_)))) {
                let first = *first.get_or_insert(now);
                summary.generated_tokens += 1;
                summary.prefill = first - started;
                summary.decode = now - first;
            }
            match event {
                Event::Token { id, logprob } => {
                    let text = self.detokenizer.push(id)?;
                    let (text, stopped) = self.stops.push(&text);
                    if !on_token(&Token { id: Some(id), logprob, text }) {
                        return Ok(Finish::Callback);
                    }
                    if stopped {
                        return Ok(Finish::StopString);
                    }
                }
                Event::End(Ok(finish)) => return self.flush(finish, on_token),
                Event::End(Err(error)) => return Err(error),
            }
        }
    }

    /// Gives out text that was held back.
    fn flush(&mut self, finish: Finish, on_token: &mut dyn FnMut(&Token) -> bool) -> Result<Finish> {
        let rest = self.detokenizer.finish()?;
        let (mut text, stopped) = self.stops.push(&rest);
        if !stopped {
            text += &self.stops.finish();
        }
        if !text.is_empty() && !on_token(&Token { id: None, logprob: 0.0, text }) {
            return Ok(Finish::Callback);
        }
        Ok(if stopped { Finish::StopString } else { finish })
    }

    fn next_event(&mut self) -> Result<Event> {
        loop {
            if self.cancel.as_ref().is_some_and(|cancel| cancel.is_triggered()) {
                return Err(Error::Cancelled);
            }
            let event = match &self.cancel {
                Some(_) => self.events.recv_timeout(CANCEL_POLL),
                None => self.events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok(event) => {
                    if matches!(event, Event::Token { .. }) && self.shared.took_token() {
                        let _ = self.model.commands.send(Command::Wake);
                    }
                    return Ok(event);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // The engine thread drops a request without a word only when it is gone.
                Err(RecvTimeoutError::Disconnected) => return Err(Error::Closed),
            }
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        // However the caller leaves, a panic of its callback included, the engine stops working.
        self.shared.abandoned.store(true, Ordering::Release);
        let _ = self.model.commands.send(Command::Wake);
    }
}
