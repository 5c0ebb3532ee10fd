package index

import (
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPosition_IsReadAsItIsWritten(t *testing.T) {
	for _, p := range []Position{{}, {1, 2}, {math.MaxUint64, math.MaxInt}} {
		for _, epoch := range []string{"a", "0190a6b8-7c2f-7d3e-9a4b-5c6d7e8f9a0b"} {
			readEpoch, read, err := ParsePosition(p.Format(epoch))
			require.NoError(t, err)
			require.Equal(t, p, read)
			require.Equal(t, epoch, readEpoch)
		}
	}
}

func TestPosition_RefusesOtherTexts(t *testing.T) {
	for _, text := range []string{"", "1", "1-2", "-1-2", "a-1-", "a--1", "a-01-2", "a-1-+2", "a-1-2 ", "a-18446744073709551616-1"} {
		_, _, err := ParsePosition(text)
		require.Error(t, err, text)
	}
}

func TestPosition_Compare(t *testing.T) {
	ordered := []Position{{0, 0}, {0, 1}, {1, 0}, {1, 5}, {2, 0}}
	for i, p := range ordered {
		for j, other := range ordered {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, p.Compare(other))
		}
	}
}

func TestChange_IsStoredWithoutWhatItDoesNotHave(t *testing.T) {
	stored, err := json.Marshal(Change{Reservation: &Reservation{TicketID: "t", Sequence: 3, Status: Reserved}})
	require.NoError(t, err)
	require.JSONEq(t, `{"reservation":{"id":"t","seq":3,"status":"reserved"}}`, string(stored))
	stored, err = json.Marshal(Change{Listing: &Listing{ID: "t", Version: 2, Deleted: true, Status: Available, UpdatedAt: time.Unix(0, 0).UTC()}})
	require.NoError(t, err)
	require.JSONEq(t, `{"listing":{"id":"t","v":2,"gone":true,"status":"available","upd":"1970-01-01T00:00:00Z"}}`, string(stored))
}

func FuzzParsePosition(f *testing.F) {
	f.Add("epoch-1-2")
	f.Fuzz(func(t *testing.T, text string) {
		epoch, p, err := ParsePosition(text)
		if err == nil {
			require.Equal(t, text, p.Format(epoch))
		}
	})
}
