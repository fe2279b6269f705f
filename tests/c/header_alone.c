// The header compiles alone, first in the file and twice, as C11 and as C++17 with all warnings as errors.
#include <mlxrt.h>
#include <mlxrt.h>

int header_alone(void);

int header_alone(void) {
    mlxrt_status status = MLXRT_STATUS_OK;
    return status == 0 && MLXRT_ABI_VERSION > 0;
}
