// The header itself is not copied here: it comes from the installed library.
#include <mlxrt.h>
