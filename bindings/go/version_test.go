package mlxrt

import (
	"errors"
	"testing"
)

func TestABI(t *testing.T) {
	if abiError != nil {
		t.Error(abiError)
	}
	if err := checkABI(999); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
