package problem

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNew_FormatsItsMessage(t *testing.T) {
	p := New(Conflict, "Ticket %d is reserved.", 7)

	require.Equal(t, []Detail{{Message: "Ticket 7 is reserved."}}, p.Details)
	require.Equal(t, "conflict: Ticket 7 is reserved.", p.Error())
}

func TestError_AddingToAProblemDoesNotChangeTheOriginal(t *testing.T) {
	inUse := New(Conflict, "Email in use.")

	p := inUse.WithCode("email_in_use").WithField("email").WithRetryAfter(time.Second).Because(io.EOF)

	require.Equal(t, []Detail{{Message: "Email in use."}}, inUse.Details)
	require.Zero(t, inUse.RetryAfter)
	require.NoError(t, inUse.Unwrap())
	require.Equal(t, []Detail{{Message: "Email in use.", Field: "email", Code: "email_in_use"}}, p.Details)
	require.Equal(t, time.Second, p.RetryAfter)
	require.ErrorIs(t, p, io.EOF)
}

func TestError_IsFoundWhateverItsCause(t *testing.T) {
	stale := New(Conflict, "It has changed.")

	require.ErrorIs(t, fmt.Errorf("update ticket: %w", stale.Because(io.EOF)), stale)
	require.NotErrorIs(t, stale, New(Conflict, "It is sold."))
	require.NotErrorIs(t, stale, New(Invalid, "It has changed."))
}

func TestKindOf(t *testing.T) {
	tests := map[string]struct {
		err  error
		kind Kind
	}{
		"a problem":         {New(Forbidden, "Not yours."), Forbidden},
		"a wrapped problem": {fmt.Errorf("read order: %w", New(NotFound, "No such order.")), NotFound},
		"any other error":   {errors.New("connection refused"), Internal},
		"no error":          {nil, Internal},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.kind, KindOf(tt.err))
		})
	}
}
