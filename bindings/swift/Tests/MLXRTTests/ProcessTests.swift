import Testing

@testable import MLXRT

@Suite struct ProcessTests {
    @Test func version() throws {
        #expect(!Library.version.isEmpty)
        #expect(!Library.buildInfo.isEmpty)
        try Library.checkInterface()
        #expect(throws: MLXRTError.self) { try Library.checkInterface(999) }
    }

    @Test func devices() throws {
        let cpu = try Device.cpu.info()
        #expect(cpu.device == .cpu && cpu.isAvailable && !cpu.name.isEmpty)
        let best = try Device.auto.info()
        #expect(best.device != .auto && best.isAvailable)
        let gpu = try Device.gpu.info()
        #expect(gpu.device == .gpu && gpu.isAvailable == (best.device == .gpu))
    }

    @Test(.enabled(if: Demo.isThere)) func memory() async throws {
        let model = try await Model.load(Demo.path, options: LoadOptions(noMmap: true, exact: true, threads: 2))
        defer { model.close() }
        #expect(try Memory.active >= model.info.weightBytes)
        try Memory.resetPeak()
        try Memory.clearCache()
        #expect(try Memory.peak >= model.info.weightBytes)
        _ = try Memory.cache
        let before = try Memory.setLimit(1 << 40)
        #expect(try Memory.setLimit(before) == 1 << 40)
        try Memory.setCacheLimit(try Memory.setCacheLimit(0))
        try Memory.setWiredLimit(try Memory.setWiredLimit(0))
    }
}
