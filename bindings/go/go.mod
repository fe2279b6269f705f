module github.com/mlxrt/mlxrt/bindings/go

go 1.24
