import CMLXRT

/// An answer that can be asked for.
struct Generation: Sendable {
    enum Prompt: Sendable {
        case text(String)
        case ids([Int32])
        case chat([Message], ChatOptions)
    }

    let model: Model
    let prompt: Prompt
    let options: GenerateOptions

    /// Begins the answer; its handle is to be freed.
    func open(cancel: Cancel) throws -> OpaquePointer {
        var stream: OpaquePointer?
        let strings = CStrings()
        func open() throws {
            try model.use { model in
                options.withC(cancel: cancel, strings: strings) { options in
                    switch prompt {
                    case .text(let text):
                        let text = strings.add(text)
                        return mlxrt_stream_open(model, text.data, text.len, options, &stream)
                    case .ids(let ids):
                        return mlxrt_stream_open_ids(model, ids, ids.count, options, &stream)
                    case .chat(let messages, let chat):
                        let list = strings.add(messages)
                        return withUnsafePointer(to: chat.toC(strings)) { chat in
                            mlxrt_stream_open_chat(model, list, list.count, chat, options, &stream)
                        }
                    }
                }
            }
        }
        try withExtendedLifetime(strings) { try options.session?.handle.explain(open) ?? open() }
        return stream!
    }
}
