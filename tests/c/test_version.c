// Versions, names of status codes and devices: what needs no model.
#include "fixture.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>

TEST(abi_and_version_are_those_of_the_header) {
    char version[64];
    snprintf(version, sizeof version, "%d.%d.%d", MLXRT_VERSION_MAJOR, MLXRT_VERSION_MINOR,
             MLXRT_VERSION_PATCH);
    CHECK_INT(mlxrt_abi_version(), MLXRT_ABI_VERSION);
    CHECK(strcmp(mlxrt_version(), version) == 0);
}

TEST(build_info_names_mlx_in_one_line) {
    CHECK_CONTAINS(mlxrt_build_info(), mlxrt_version());
    CHECK_CONTAINS(mlxrt_build_info(), "mlx");
    CHECK(strchr(mlxrt_build_info(), '\n') == NULL);
    CHECK(mlxrt_build_info() == mlxrt_build_info());
}

TEST(every_status_has_its_name) {
    static const char *const names[] = {"OK",          "BAD_ARGUMENT",     "NOT_FOUND",     "BAD_MODEL",
                                        "UNSUPPORTED", "CONTEXT_FULL",     "OUT_OF_MEMORY", "CANCELLED",
                                        "CLOSED",      "BUFFER_TOO_SMALL", "MLX",           "INTERNAL",
                                        "IO",          "NETWORK"};
    for (int32_t i = 0; i < (int32_t)(sizeof names / sizeof *names); i++) {
        CHECK(strcmp(mlxrt_status_name(i), names[i]) == 0);
    }
    CHECK(strcmp(mlxrt_status_name(-1), "UNKNOWN") == 0);
    CHECK(strcmp(mlxrt_status_name(14), "UNKNOWN") == 0);
    CHECK(strcmp(mlxrt_status_name(INT32_MAX), "UNKNOWN") == 0);
}

TEST(no_message_before_the_first_failure) {
    CHECK(strcmp(mlxrt_error_message(), "") == 0);
}

TEST(success_does_not_clear_the_message) {
    uint64_t bytes = 0;
    CHECK_STATUS(mlxrt_memory_active(NULL), BAD_ARGUMENT);
    CHECK(strlen(mlxrt_error_message()) > 0);
    CHECK_OK(mlxrt_memory_active(&bytes));
    CHECK(strlen(mlxrt_error_message()) > 0);
}

TEST(the_cpu_is_always_there) {
    mlxrt_device_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_device_info(MLXRT_DEVICE_CPU, &desc));
    CHECK_INT(desc.device, MLXRT_DEVICE_CPU);
    CHECK_INT(desc.available, 1);
    CHECK(desc.name != NULL && strlen(desc.name) > 0);
    CHECK_INT(desc.struct_size, sizeof desc);
}

TEST(auto_stands_for_a_device_that_is_there) {
    mlxrt_device_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_device_info(MLXRT_DEVICE_AUTO, &desc));
    CHECK(desc.device == MLXRT_DEVICE_CPU || desc.device == MLXRT_DEVICE_GPU);
    CHECK_INT(desc.available, 1);
}

TEST(a_missing_gpu_is_described_and_refused) {
    mlxrt_device_desc desc = {.struct_size = sizeof desc};
    REQUIRE_OK(mlxrt_device_info(MLXRT_DEVICE_GPU, &desc));
    CHECK_INT(desc.device, MLXRT_DEVICE_GPU);
    CHECK(desc.name != NULL);
    if (desc.available) {
        SKIP("this machine has a GPU that MLX can use");
    }
    mlxrt_load_options options = {.struct_size = sizeof options, .device = MLXRT_DEVICE_GPU};
    mlxrt_model *model = NULL;
    const char *folder = model_folder();
    CHECK_STATUS(mlxrt_model_load(folder, strlen(folder), &options, &model), UNSUPPORTED);
    CHECK(model == NULL);
    CHECK(strlen(mlxrt_error_message()) > 0);
}

TEST(an_unknown_device_is_a_bad_argument) {
    mlxrt_device_desc desc = {.struct_size = sizeof desc, .device = 77};
    CHECK_FAILS(mlxrt_device_info(3, &desc), BAD_ARGUMENT, "3");
    CHECK_STATUS(mlxrt_device_info(-1, &desc), BAD_ARGUMENT);
    CHECK_INT(desc.device, 77);
}

int main(void) {
    RUN(abi_and_version_are_those_of_the_header);
    RUN(build_info_names_mlx_in_one_line);
    RUN(every_status_has_its_name);
    RUN(no_message_before_the_first_failure);
    RUN(success_does_not_clear_the_message);
    RUN(the_cpu_is_always_there);
    RUN(auto_stands_for_a_device_that_is_there);
    RUN(a_missing_gpu_is_described_and_refused);
    RUN(an_unknown_device_is_a_bad_argument);
    return end_of_tests();
}
