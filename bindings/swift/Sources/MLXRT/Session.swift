import CMLXRT

/// A conversation with a model. It remembers its tokens and what was computed of them, so an answer that
/// names it in its options only computes what is new.
///
///     let session = try model.newSession()
///     let options = GenerateOptions { $0.session = session }
///     for try await token in model.chat(messages, options: options) { ... }
///
/// One call at a time may use it: another ends with the error `busy`. Its memory is freed by `close` or with
/// the last reference; an answer under way goes on to its end.
public final class Session: Sendable {
    let handle: Handle
    /// Not freed as long as the session may need it.
    private let model: Model

    fileprivate init(_ handle: OpaquePointer, of model: Model) {
        self.handle = Handle(handle, name: "session") { mlxrt_session_free($0) }
        self.model = model
    }

    /// Frees the conversation. Every later call ends with the error `closed`. May be called more than once.
    public func close() { handle.close() }

    /// The ids of the whole conversation: prompts and answers, as far as their loops went.
    public func tokens() async throws -> [Int32] {
        try await blocking { [handle] _ in
            try handle.fill(guess: 1024) { session, ids, count in
                mlxrt_session_tokens(session, ids.baseAddress, ids.count, count)
            }
        }
    }

    /// Forgets all tokens behind the first `count`. Where the model can't go back so far (recurrent layers,
    /// sliding windows, a context that rotated) the next answer computes some of the first ones again.
    public func rewind(to count: Int) async throws {
        guard count >= 0 else {
            throw MLXRTError(status: .badArgument, message: "rewind to \(count) tokens")
        }
        try await blocking { [handle] _ in try handle.use { mlxrt_session_rewind($0, count) } }
    }

    /// Makes a second session that begins with the same tokens; both go on independently. The memory of what
    /// they have in common is shared.
    public func fork() async throws -> Session {
        try await blocking { [handle, model] _ in
            var fork: OpaquePointer?
            try handle.use { mlxrt_session_fork($0, &fork) }
            return Session(fork!, of: model)
        }
    }

    /// Writes the conversation to a file, tokens and what was computed of them. The file appears when it is
    /// complete.
    public func export(to path: String) async throws {
        try await blocking { [handle] _ in
            let strings = CStrings()
            let path = strings.add(path)
            try withExtendedLifetime(strings) {
                try handle.use { mlxrt_session_export($0, path.data, path.len) }
            }
        }
    }
}

extension Model {
    /// Begins a conversation.
    public func newSession() throws -> Session {
        var session: OpaquePointer?
        try use { mlxrt_session_new($0, &session) }
        return Session(session!, of: self)
    }

    /// Begins with what `Session.export` wrote to a file, with the same model, weights and type included, and
    /// the same `kvBits` and `rotatingContext`.
    public func importSession(_ path: String) async throws -> Session {
        try await blocking { [self] _ in
            let strings = CStrings()
            let path = strings.add(path)
            var session: OpaquePointer?
            try withExtendedLifetime(strings) {
                try use { mlxrt_session_import($0, path.data, path.len, &session) }
            }
            return Session(session!, of: self)
        }
    }
}
