#include <mlxrt.h>
#include <mlxrt.h>

#include <cstddef>
#include <type_traits>

// What bindings rely on: the sizes, and enums that are 32 bits wide.
static_assert(sizeof(mlxrt_load_options) == 120, "mlxrt_load_options");
static_assert(sizeof(mlxrt_generate_options) == 104, "mlxrt_generate_options");
static_assert(sizeof(mlxrt_generate_result) == 96, "mlxrt_generate_result");
static_assert(sizeof(mlxrt_classify_options) == 48, "mlxrt_classify_options");
static_assert(sizeof(mlxrt_classification) == 56, "mlxrt_classification");
static_assert(sizeof(mlxrt_stats) == 96, "mlxrt_stats");
static_assert(sizeof(mlxrt_model_desc) == 88, "mlxrt_model_desc");
static_assert(sizeof(mlxrt_device_desc) == 32, "mlxrt_device_desc");
static_assert(sizeof(mlxrt_token) == 32, "mlxrt_token");
static_assert(sizeof(mlxrt_message) == 32, "mlxrt_message, which never grows");
static_assert(offsetof(mlxrt_generate_options, struct_size) == 0, "struct_size comes first");
static_assert(offsetof(mlxrt_token, struct_size) == 0, "struct_size comes first");
static_assert(std::is_standard_layout<mlxrt_generate_options>::value, "a C struct");
static_assert(sizeof(mlxrt_status) == 4, "mlxrt_status");

int main() {
    return mlxrt_abi_version() == MLXRT_ABI_VERSION ? 0 : 1;
}
