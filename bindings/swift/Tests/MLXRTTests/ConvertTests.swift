import Foundation
import Testing

@testable import MLXRT

@Suite(.enabled(if: Demo.isThere)) struct ConvertTests {
    @Test func copiesAndRefuses() async throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let copy = folder.appendingPathComponent("copy").path

        // The demo model is quantised already.
        await #expect(throws: MLXRTError.self) {
            try await Model.convert(Demo.path, to: copy, options: ConvertOptions(mode: .affine, bits: 8))
        }
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await Model.convert(Demo.path, to: copy)
        }
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(!FileManager.default.fileExists(atPath: copy))

        let told = Guarded([LoadProgress]())
        try await Model.convert(Demo.path, to: copy) { step in told.withLock { $0.append(step) } }
        #expect(told.withLock { $0.last.map { $0.done == $0.total && $0.total > 0 } } == true)
        let model = try await Model.load(copy)
        #expect(model.info.quantMode == .affine && model.info.quantBits == 4 && model.info.unusedTensors == 0)
        model.close()
    }
}
