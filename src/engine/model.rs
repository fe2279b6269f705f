//! The model as callers on any thread see it.

use super::answer::{Answer, Outcome, Summary, Token};
use super::chat::{ChatTemplate, Conversation};
use super::load::read_config;
use super::options::{GenerateOptions, LoadOptions, ModelInfo, check_ids};
use super::request::{Reply, Request, Shared, Work};
use super::stats::{ModelStats, Stats};
use super::stream::Stream;
use super::threads::Running;
use super::worker::{self, Command, Loading, Worker};
use super::{Cancel, Tokenizer, gguf, hub};
use crate::error::{Error, Result};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

/// A loaded model. Dropping it ends what it does and frees its memory.
pub struct Model {
    info: ModelInfo,
    tokenizer: Arc<Tokenizer>,
    template: Option<ChatTemplate>,
    commands: Sender<Command>,
    closing: Arc<Cancel>,
    running: Mutex<Option<Running>>,
    stats: Arc<Stats>,
    max_concurrent: usize,
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
        let max_concurrent = options.serving.max_concurrent;
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
        let Worker { commands, closing, running, stats, .. } = worker;
        match loaded {
            Ok((info, (template, tokenizer))) => {
                let info = ModelInfo { has_chat_template: template.is_some(), ..info };
                let running = Mutex::new(Some(running));
                Ok(Model {
                    info,
                    tokenizer: Arc::new(tokenizer),
                    template,
                    commands,
                    closing,
                    running,
                    stats,
                    max_concurrent,
                })
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
        match self.stream(prompt, options) {
            Ok(stream) => stream.drain(on_token),
            Err(error) => Outcome { end: Err(error), summary: Summary::default() },
        }
    }

    /// Begins to generate after a prompt of ids; the tokens are taken from the stream.
    pub fn stream(&self, prompt: Vec<i32>, options: GenerateOptions) -> Result<Stream> {
        let (events, receiver) = channel();
        let answer = self.submit(prompt, options, Work::Generate, Reply { events, index: 0 }, false)?;
        Ok(Stream::new(answer, receiver))
    }

    /// Checks a request and sends it to the engine thread.
    pub(super) fn submit(
        &self,
        prompt: Vec<i32>,
        options: GenerateOptions,
        work: Work,
        reply: Reply,
        eager: bool,
    ) -> Result<Answer> {
        options.check(self.info.vocab_size)?;
        check_ids("the prompt", &prompt, self.info.vocab_size)?;
        if prompt.is_empty() {
            return Err(Error::BadArgument("the prompt is empty".into()));
        }
        if options.session.as_ref().is_some_and(|session| !session.is_of(self)) {
            return Err(Error::BadArgument("the session belongs to another model".into()));
        }
        let mut end_ids = options.stop_tokens.clone();
        if !options.ignore_end {
            end_ids.extend(self.tokenizer.end_ids());
        }
        let shared = Arc::new(Shared::new(eager));
        let commands = self.commands.clone();
        let answer = Answer::new(self.tokenizer.clone(), &options, shared.clone(), commands, prompt.len());
        let submitted = Instant::now();
        let session = options.session.as_ref().map(|session| session.to_use(options.whole_conversation));
        let request = Request { work, prompt, session, options, end_ids, reply, shared, submitted };
        self.commands.send(Command::Submit(Box::new(request))).map_err(|_| Error::Closed)?;
        Ok(answer)
    }

    /// How many requests are computed at once, at most.
    pub(super) fn max_concurrent(&self) -> usize {
        self.max_concurrent
    }

    /// The engine's ends, for sessions.
    pub(super) fn ends(&self) -> (Arc<Cancel>, Sender<Command>) {
        (self.closing.clone(), self.commands.clone())
    }

    /// What the engine is doing.
    pub fn stats(&self) -> ModelStats {
        self.stats.read()
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
