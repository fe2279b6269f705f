import CMLXRT

extension Model {
    /// Turns text into token ids. Special tokens written in the text, such as "<|im_end|>", become
    /// their ids, or stay text with `plainText`; with `addSpecial` the model's own (a
    /// beginning-of-text token, say) are added.
    public func tokenize(_ text: String, addSpecial: Bool = true, plainText: Bool = false) throws -> [Int32] {
        var flags: UInt32 = 0
        if addSpecial { flags |= UInt32(MLXRT_TOKENIZE_ADD_SPECIAL) }
        if plainText { flags |= UInt32(MLXRT_TOKENIZE_PLAIN_TEXT) }
        let strings = CStrings()
        let text = strings.add(text)
        return try withExtendedLifetime(strings) {
            // Most texts have fewer tokens than bytes; the rest cost a second call.
            try handle.fill(guess: text.len + 8) { [flags] model, ids, count in
                mlxrt_model_tokenize(model, text.data, text.len, flags, ids.baseAddress, ids.count, count)
            }
        }
    }

    /// Turns token ids into text; with `skipSpecial` special tokens are left out. Bytes that are no
    /// UTF-8 become U+FFFD.
    public func detokenize(_ ids: [Int32], skipSpecial: Bool = true) throws -> String {
        let utf8: [CChar] = try handle.fill(guess: 8 * ids.count) { model, text, length in
            mlxrt_model_detokenize(
                model, ids, ids.count, skipSpecial ? 1 : 0, text.baseAddress, text.count, length)
        }
        return String(decoding: utf8.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    /// The text that a conversation becomes through the model's chat template: what `chat` gives the
    /// model to read.
    public func renderChat(_ messages: [Message], chat: ChatOptions = ChatOptions()) throws -> String {
        let strings = CStrings()
        let list = strings.add(messages)
        let options = chat.toC(strings)
        let json = chat.messages.utf8.count + chat.tools.utf8.count + chat.variables.utf8.count
        let guess = messages.reduce(json) { $0 + $1.role.utf8.count + $1.content.utf8.count + 64 }
        let utf8: [CChar] = try withExtendedLifetime(strings) {
            try handle.fill(guess: guess) { model, text, length in
                withUnsafePointer(to: options) { options in
                    mlxrt_model_render_chat(
                        model, list, list.count, options, text.baseAddress, text.count, length)
                }
            }
        }
        return String(decoding: utf8.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
