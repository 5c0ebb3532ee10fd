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
	p := New(Conflict, "ticket_reserved", "Ticket %d is reserved.", 7)

	require.Equal(t, []Detail{{Message: "Ticket 7 is reserved.", Code: "ticket_reserved"}}, p.Details)
	require.Equal(t, "conflict: Ticket 7 is reserved.", p.Error())
}

func TestError_AddingToAProblemDoesNotChangeTheOriginal(t *testing.T) {
	inUse := New(Conflict, "email_in_use", "Email in use.")

	p := inUse.WithField("email").WithMember("userId", "7").WithRetryAfter(time.Second).Because(io.EOF)

	require.Equal(t, []Detail{{Message: "Email in use.", Code: "email_in_use"}}, inUse.Details)
	require.Empty(t, inUse.Members)
	require.Zero(t, inUse.RetryAfter)
	require.NoError(t, inUse.Unwrap())
	require.Equal(t, []Detail{{Message: "Email in use.", Field: "email", Code: "email_in_use"}}, p.Details)
	require.Equal(t, map[string]any{"userId": "7"}, p.Members)
	require.Equal(t, map[string]any{"userId": "7", "attempts": 3}, p.WithMember("attempts", 3).Members)
	require.Equal(t, map[string]any{"userId": "7"}, p.Members)
	require.Equal(t, time.Second, p.RetryAfter)
	require.ErrorIs(t, p, io.EOF)
}

func TestError_IsFoundWhateverItsCause(t *testing.T) {
	stale := New(Conflict, "stale_version", "It has changed.")

	require.ErrorIs(t, fmt.Errorf("update ticket: %w", stale.WithMember("version", 2).Because(io.EOF)), stale)
	require.NotErrorIs(t, stale, New(Conflict, "ticket_sold", "It is sold."))
	require.NotErrorIs(t, stale, New(Invalid, "stale_version", "It has changed."))
}

func TestKindOf(t *testing.T) {
	tests := map[string]struct {
		err  error
		kind Kind
	}{
		"a problem":         {New(Forbidden, "not_owner", "Not yours."), Forbidden},
		"a wrapped problem": {fmt.Errorf("read order: %w", New(NotFound, "not_found", "No such order.")), NotFound},
		"any other error":   {errors.New("connection refused"), Internal},
		"no error":          {nil, Internal},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, tt.kind, KindOf(tt.err))
		})
	}
}
