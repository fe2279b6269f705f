import Foundation
import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct BatchTests {
    let prompts = ["Once", "The quick brown fox", "What is the capital of France? The capital of France"]

    @Test(arguments: [0, 5] as [UInt64]) func asAlone(seed: UInt64) async throws {
        let model = try await Demo.model
        let options = GenerateOptions {
            $0.maxTokens = 12
            $0.ignoreEnd = true
            $0.temperature = seed == 0 ? 0 : 1.2
            $0.seed = seed
        }
        let before = try model.stats()
        let results = try await model.generateBatch(prompts, options: options)
        #expect(results.count == prompts.count)
        for (prompt, result) in zip(prompts, results) {
            let alone = model.generate(prompt, options: options)
            #expect(try await alone.text() == result.text)
            let expected = try #require(await alone.result)
            #expect(result.error == nil && result.tokens.count == 12)
            #expect(result.result.finish == .length && result.result.promptTokens == expected.promptTokens)
        }
        let after = try model.stats()
        #expect(after.steps > before.steps && after.tokens >= before.tokens + 36)
        #expect(after.stepDuration > before.stepDuration)
    }

    @Test func promptsThatFail() async throws {
        let model = try await Demo.model
        let list = [prompts[0], "", String(repeating: "word ", count: 5000), prompts[1]]
        let results = try await model.generateBatch(list, options: GenerateOptions { $0.maxTokens = 2 })
        let errors = results.map { ($0.error as? MLXRTError)?.status }
        #expect(errors == [nil, .badArgument, .contextFull, nil])
        #expect((results[1].error as? MLXRTError)?.message.contains("prompts[1]") == true)
        #expect(!results[0].tokens.isEmpty && results[1].tokens.isEmpty && !results[3].tokens.isEmpty)
        let classes = try await model.classify(list)
        #expect(classes.map { ($0.error as? MLXRTError)?.status } == errors)
        #expect(classes.map { $0.token == nil } == [false, true, true, false])
    }

    @Test func cancelled() async throws {
        let model = try await Demo.model
        let task = Task { try await model.generateBatch(prompts, options: Demo.endless) }
        try await Task.sleep(for: .milliseconds(200))
        task.cancel()
        let results = try await task.value
        #expect(results.count == prompts.count)
        for result in results {
            #expect(result.error is CancellationError && result.result.finish == .none)
            #expect(result.tokens.count == result.result.generatedTokens && result.tokens.count < 900)
        }
    }

    @Test func classify() async throws {
        let model = try await Demo.model
        let all = try await model.classify(prompts, options: ClassifyOptions { $0.allLogits = true })
        let some = try await model.classify(prompts, options: ClassifyOptions { $0.labels = [700, 3] })
        let none = try await model.classify(prompts)
        for (index, found) in all.enumerated() {
            let token = try #require(found.token)
            let id = Int(try #require(token.id))
            #expect(found.logits.count == model.info.vocabSize && none[index].logits.isEmpty)
            let sum = found.logits.reduce(0.0) { $0 + exp(Double($1 - found.logits[id])) }
            #expect(abs(-log(sum) - Double(token.logprob)) < 1e-4)
            #expect(zip(some[index].logits, [found.logits[700], found.logits[3]]).allSatisfy { abs($0 - $1) < 1e-4 })
            #expect(some[index].token?.id == token.id && none[index].token?.id == token.id)
            let one = GenerateOptions {
                $0.maxTokens = 1
                $0.ignoreEnd = true
            }
            for try await generated in model.generate(prompts[index], options: one) {
                #expect(generated.id == token.id)
                break
            }
        }
    }

    @Test func badArguments() async throws {
        let model = try await Demo.model
        let hot = GenerateOptions { $0.temperature = -1 }
        let far = ClassifyOptions { $0.labels = [1 << 20] }
        #expect(await status { _ = try await model.generateBatch(prompts, options: hot) } == .badArgument)
        #expect(await status { _ = try await model.classify(prompts, options: far) } == .badArgument)
        #expect(try await model.generateBatch([]).isEmpty)
        #expect(try await model.classify([]).isEmpty)
        let closed = try await Demo.own()
        closed.close()
        #expect(await status { _ = try await closed.generateBatch(prompts) } == .closed)
        #expect(await status { _ = try await closed.classify(prompts) } == .closed)
        #expect(await status { _ = try closed.stats() } == .closed)
    }

    @Test func moreThanMayWait() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(maxConcurrent: 1, maxQueue: 1))
        defer { model.close() }
        let options = GenerateOptions { $0.maxTokens = 2 }
        let results = try await model.generateBatch(Array(repeating: prompts[0], count: 6), options: options)
        #expect(results.count == 6 && results.allSatisfy { $0.error == nil })
    }

    /// More answers at once than there are places: each waits for its turn on a thread of its own.
    @Test func manyMoreThanPlaces() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(maxConcurrent: 2))
        defer { model.close() }
        let options = GenerateOptions { $0.maxTokens = 6 }
        let want = try await model.chat(Demo.story, options: options).text()
        try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<32 { group.addTask { try await model.chat(Demo.story, options: options).text() } }
            for try await text in group { #expect(text == want) }
        }
    }
}
