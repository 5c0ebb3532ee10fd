package statetest

import (
	"time"

	"github.com/google/uuid"
)

// IDOfAge makes an id (a UUIDv7) that seems to have been made some time ago.
func IDOfAge[T ~string](age time.Duration) T {
	made := uuid.Must(uuid.NewV7())
	milliseconds := time.Now().Add(-age).UnixMilli()
	for i := range 6 {
		made[i] = byte(milliseconds >> (40 - 8*i))
	}
	return T(made.String())
}
