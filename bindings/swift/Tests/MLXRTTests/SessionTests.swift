import Foundation
import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct SessionTests {
    /// Several chunks of 64 tokens.
    static let start = String(repeating: "The capital of France is Paris. The capital of Italy is Rome. ", count: 12)

    /// A dozen tokens and what they took.
    func turn(
        _ model: Model, _ prompt: String, _ session: Session? = nil, seed: UInt64? = nil, tokens: UInt32 = 12
    ) async throws -> ([Int32], GenerateResult) {
        let options = GenerateOptions {
            $0.maxTokens = tokens
            $0.ignoreEnd = true
            $0.session = session
            $0.temperature = seed == nil ? 0 : 1.2
            $0.seed = seed ?? 0
        }
        let answer = model.generate(prompt, options: options)
        var ids: [Int32] = []
        for try await token in answer { ids += [token.id].compactMap { $0 } }
        return (ids, try #require(await answer.result))
    }

    /// The figures once nothing is under way.
    func idle(_ model: Model) async throws -> ModelStats {
        while true {
            let stats = try model.stats()
            if stats.running + stats.waiting == 0 { return stats }
            try await Task.sleep(for: .milliseconds(1))
        }
    }

    func folder() throws -> String {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("mlxrt-" + UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        return folder.path
    }

    @Test func prefillsWhatIsNew() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(prefixCache: nil))
        defer { model.close() }
        let session = try model.newSession()
        #expect(try await session.tokens().isEmpty)
        let (first, result) = try await turn(model, Self.start, session)
        let held = try await session.tokens()
        #expect(result.cachedTokens == 0 && held.count == result.promptTokens + 12 && Array(held.suffix(12)) == first)
        let (_, next) = try await turn(model, " And so on.", session)
        #expect(next.cachedTokens == held.count - 1 && next.promptTokens > held.count)
        let stats = try await idle(model)
        #expect(stats.sessions == 1 && stats.cachedTokens == held.count - 1 && stats.promptTokens > stats.cachedTokens)
        #expect(stats.prefixEntries == 0 && stats.prefixBytes == 0 && stats.kvBudget > 0)
    }

    @Test func chat() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(prefixCache: nil))
        defer { model.close() }
        let session = try model.newSession()
        let options = GenerateOptions { $0.session = session }
        let first = model.chat(Demo.paris, options: options)
        let text = try await first.text()
        #expect(text.contains("Paris"))
        let prompt = try #require(await first.result).promptTokens
        let more = [Message(role: "assistant", content: text), .user("What is the capital of Italy?")]
        let second = model.chat(Demo.paris + more, options: options)
        #expect(try await second.text().contains("Rome"))
        #expect(try #require(await second.result).cachedTokens >= prompt)
    }

    @Test func rewindAndFork() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(prefixCache: nil))
        defer { model.close() }
        let session = try model.newSession()
        let (first, result) = try await turn(model, Self.start, session)
        let held = try await session.tokens()
        let fork = try await session.fork()
        try await fork.rewind(to: result.promptTokens - 1)
        #expect(try await fork.tokens() == Array(held[..<(result.promptTokens - 1)]))
        #expect(try await session.tokens() == held)
        let options = GenerateOptions {
            $0.maxTokens = 12
            $0.ignoreEnd = true
            $0.session = fork
        }
        let again = model.generate(ids: [held[result.promptTokens - 1]], options: options)
        var ids: [Int32] = []
        for try await token in again { ids += [token.id].compactMap { $0 } }
        #expect(ids == first)
        #expect(try #require(await again.result).cachedTokens == result.promptTokens - 1)
        #expect(await status { try await session.rewind(to: -1) } == .badArgument)
        #expect(await status { try await session.rewind(to: held.count + 1) } == .badArgument)
        try await session.rewind(to: 0)
        #expect(try await session.tokens().isEmpty)
    }

    @Test func files() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let model = try await Model.load(Demo.path, options: LoadOptions(prefixCache: nil))
        let other = try await Model.load(Demo.path, options: LoadOptions(kvBits: 8))
        defer {
            model.close()
            other.close()
        }
        let session = try model.newSession()
        _ = try await turn(model, Self.start, session)
        let held = try await session.tokens()
        try await session.export(to: folder + "/session")
        let (expected, _) = try await turn(model, " And so on.", session)
        let again = try await model.importSession(folder + "/session")
        #expect(try await again.tokens() == held)
        let (found, result) = try await turn(model, " And so on.", again)
        #expect(found == expected && result.cachedTokens == held.count - 1)
        #expect(await status { _ = try await other.importSession(folder + "/session") } == .badModel)
        #expect(await status { _ = try await model.importSession(folder + "/nowhere") } == .notFound)
        #expect(await status { try await session.export(to: folder + "/no/where") } == .io)
        try Data("nonsense".utf8).write(to: URL(fileURLWithPath: folder + "/session"))
        #expect(await status { _ = try await model.importSession(folder + "/session") } == .badModel)
    }

    @Test func busy() async throws {
        let model = try await Demo.own()
        defer { model.close() }
        let session = try model.newSession()
        var options = Demo.endless
        options.maxTokens = 200
        options.session = session
        let answer = model.generate(Self.start, options: options)
        var taken = 0
        for try await _ in answer {
            #expect(await status { _ = try await session.tokens() } == .busy)
            #expect(await status { _ = try await session.fork() } == .busy)
            #expect(await status { try await session.rewind(to: 0) } == .busy)
            #expect(await status { _ = try await turn(model, "a", session) } == .busy)
            taken += 1
            if taken == 3 { break }
        }
        let prompt = try #require(await answer.result).promptTokens
        _ = try await idle(model)
        // What came and nobody took is no part of the conversation.
        #expect(try await session.tokens().count == prompt + 3)
    }

    @Test func closed() async throws {
        let model = try await Demo.own()
        let session = try model.newSession()
        let other = try await Demo.model
        #expect(await status { _ = try await turn(other, "a", session) } == .badArgument)
        let options = GenerateOptions { $0.session = session }
        #expect(await status { _ = try await model.generateBatch(["a"], options: options) } == .badArgument)
        let orphan = try model.newSession()
        session.close()
        session.close()
        #expect(await status { _ = try await session.tokens() } == .closed)
        #expect(await status { _ = try await turn(model, "a", session) } == .closed)
        model.close()
        for closed in [session, orphan] {
            #expect(await status { _ = try await closed.tokens() } == .closed)
            #expect(await status { _ = try await closed.fork() } == .closed)
            #expect(await status { try await closed.rewind(to: 0) } == .closed)
            #expect(await status { try await closed.export(to: "/nowhere/at/all") } == .closed)
            #expect(await status { _ = try await turn(model, "a", closed) } == .closed)
        }
        #expect(await status { _ = try model.newSession() } == .closed)
        #expect(await status { _ = try await model.importSession("a") } == .closed)
    }

    @Test func lastReference() async throws {
        let model = try await Demo.own()
        defer { model.close() }
        var session: Session? = try model.newSession()
        _ = try await turn(model, Self.start, session)
        #expect(try await idle(model).sessions == 1)
        session = nil
        // The figures are those of the last step.
        for _ in 0..<100 where try await idle(model).sessions > 0 { _ = try await turn(model, "a", tokens: 1) }
        #expect(try await idle(model).sessions == 0)
    }

    /// Several turns, otherwise for each kind.
    func dialogue(_ model: Model, _ kind: Int) async throws -> [[Int32]] {
        let session = try model.newSession()
        let seed = kind % 2 == 1 ? UInt64(kind) : nil
        let (first, _) = try await turn(model, String(Self.start.dropFirst(kind * 7)), session, seed: seed)
        let (second, _) = try await turn(model, " The number \(kind) is", session, seed: seed)
        let fork = try await session.fork()
        try await session.rewind(to: 70 + kind)
        let (third, _) = try await turn(model, " And now", session, seed: seed)
        let (last, _) = try await turn(model, " Once upon a time", fork, seed: seed)
        return [first, second, third, last]
    }

    @Test func manyTasks() async throws {
        let model = try await Demo.own()
        defer { model.close() }
        var expected: [[[Int32]]] = []
        for kind in 0..<4 { expected.append(try await dialogue(model, kind)) }
        try await withThrowingTaskGroup(of: (Int, [[Int32]]).self) { group in
            for number in 0..<32 { group.addTask { (number % 4, try await dialogue(model, number % 4)) } }
            for try await (kind, found) in group { #expect(found == expected[kind]) }
        }
    }

    @Test func prefixCache() async throws {
        let folder = try folder()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let options = LoadOptions(prefixCache: 32 << 20, prefixCacheFolder: folder)
        let model = try await Model.load(Demo.path, options: options)
        let (first, result) = try await turn(model, Self.start)
        let stats = try await idle(model)
        #expect(result.cachedTokens == 0 && stats.prefixEntries > 0 && (1...(32 << 20)).contains(stats.prefixBytes))
        let (_, second) = try await turn(model, Self.start + "B")
        #expect(second.cachedTokens >= 64 && second.cachedTokens % 64 == 0)
        model.close()
        let next = try await Model.load(Demo.path, options: options)
        defer { next.close() }
        let (again, third) = try await turn(next, Self.start)
        #expect(third.cachedTokens >= 64 && again == first)
    }

    @Test func budget() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(kvBudget: 1 << 20))
        defer { model.close() }
        #expect(try model.stats().kvBudget == 1 << 20)
        #expect(await status { _ = try await turn(model, Self.start, tokens: 700) } == .outOfMemory)
    }

    @Test func quantisedKeysAndValues() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(kvBits: 8))
        defer { model.close() }
        #expect(try await model.chat(Demo.paris).text().contains("Paris"))
        #expect(await status { _ = try await Model.load(Demo.path, options: LoadOptions(kvBits: 3)) } == .badArgument)
    }

    @Test(arguments: [nil, 4] as [UInt32?]) func rotatingContext(keep: UInt32?) async throws {
        let options = LoadOptions(contextLength: 64, rotatingContext: keep)
        let model = try await Model.load(Demo.path, options: options)
        defer { model.close() }
        let (_, result) = try await turn(model, "Once upon a time", tokens: 200)
        if keep == nil {
            #expect(result.finish == .context && result.promptTokens + result.generatedTokens <= 65)
        } else {
            #expect(result.finish == .length && result.generatedTokens == 200)
        }
    }
}
