import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct GenerateTests {
    @Test(.enabled(if: !Demo.questions.isEmpty)) func answers() async throws {
        let model = try await Demo.model
        for question in Demo.questions {
            let answer = try await model.chat([.user(question.question)]).text()
            #expect(answer.contains(question.expect), "\(question.question) was answered: \(answer)")
        }
    }

    @Test func paris() async throws {
        let answer = try await Demo.model.chat(Demo.paris)
        var text = ""
        for try await token in answer { text += token.text }
        #expect(text.contains("Paris"))
        let result = try #require(await answer.result)
        #expect(result.finish == .end && result.promptTokens > 0 && result.generatedTokens > 0)
        #expect(result.totalDuration > .zero)
        // An answer gives its tokens once.
        #expect(try await answer.text() == "")
    }

    @Test func tokensAreTheAnswer() async throws {
        let model = try await Demo.model
        let answer = model.chat(Demo.story)
        var text = ""
        var ids: [Int32] = []
        for try await token in answer {
            text += token.text
            if let id = token.id { ids.append(id) }
            #expect(token.logprob <= 0)
        }
        #expect(try model.detokenize(ids) == text)
        let result = try #require(await answer.result)
        #expect(result.generatedTokens == ids.count + (result.stopToken == nil ? 0 : 1))
    }

    @Test func promptAndIdsAgreeWithChat() async throws {
        let model = try await Demo.model
        let prompt = try model.renderChat(Demo.paris)
        let chat = try await model.chat(Demo.paris).text()
        #expect(try await model.generate(prompt, options: GenerateOptions { $0.addSpecial = false }).text() == chat)
        #expect(try await model.generate(ids: model.tokenize(prompt, addSpecial: false)).text() == chat)
    }

    @Test func options() async throws {
        let model = try await Demo.model
        var answer = model.chat(Demo.story, options: GenerateOptions { $0.maxTokens = 5 })
        var ids: [Int32] = []
        for try await token in answer { ids.append(token.id ?? -1) }
        #expect(await answer.result?.finish == .length)
        #expect(await answer.result?.generatedTokens == 5)

        let stop = try #require(ids.last)
        answer = model.chat(Demo.story, options: GenerateOptions { $0.stopTokens = [stop] })
        _ = try await answer.text()
        #expect(await answer.result?.stopToken == stop)

        answer = model.chat(Demo.paris, options: GenerateOptions { $0.stopStrings = ["never", "ari"] })
        #expect(try await answer.text().hasSuffix(" P"))
        #expect(await answer.result?.finish == .stopString)
    }

    @Test func seeds() async throws {
        let model = try await Demo.model
        func sample(_ seed: UInt64) async throws -> String {
            let options = GenerateOptions {
                $0.temperature = 1.5
                $0.topK = 200
                $0.maxTokens = 40
                $0.seed = seed
            }
            return try await model.chat(Demo.story, options: options).text()
        }
        let seven = try await sample(7)
        #expect(try await sample(7) == seven)
        #expect(try await sample(8) != seven)
    }

    @Test func leavingTheLoop() async throws {
        let answer = try await Demo.model.chat(Demo.story, options: Demo.endless)
        for try await _ in answer { break }
        let result = try #require(await answer.result)
        #expect(result.finish == .none && result.generatedTokens < 900)
    }

    @Test func cancellingTheTask() async throws {
        let model = try await Demo.model
        let answer = model.chat(Demo.story, options: Demo.endless)
        let task = Task {
            for try await _ in answer { withUnsafeCurrentTask { $0?.cancel() } }
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        let result = try #require(await answer.result)
        #expect(result.generatedTokens < 900)
    }

    @Test func manyTasks() async throws {
        let model = try await Demo.model
        let options = GenerateOptions { $0.maxTokens = 32 }
        let want = try await model.chat(Demo.story, options: options).text()
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<16 { group.addTask { try await model.chat(Demo.story, options: options).text() } }
            for try await text in group { #expect(text == want) }
        }
    }

    @Test func badArguments() async throws {
        let model = try await Demo.model
        let hot = GenerateOptions { $0.temperature = -1 }
        #expect(await status { _ = try await model.generate("").text() } == .badArgument)
        #expect(await status { _ = try await model.chat([]).text() } == .badArgument)
        #expect(await status { _ = try await model.generate(ids: [-5]).text() } == .badArgument)
        #expect(await status { _ = try await model.generate("a", options: hot).text() } == .badArgument)
        let long = String(repeating: "word ", count: 5000)
        let answer = model.generate(long)
        #expect(await status { _ = try await answer.text() } == .contextFull)
        #expect(await answer.result == nil)
    }

    @Test func neverAskedFor() async throws {
        #expect(try await Demo.model.chat(Demo.story).result == nil)
    }
}
