package events

import (
	"context"
	"sync/atomic"
)

// A reconciliation publishes events again that every service should have handled before. If such an event makes a handler
// change a document, something was missing: that is a repair. Handlers do not report it. The state package reports each
// change that it commits, and the router checks whether there was one while it handled such an event.

type changeObserver struct{}

// observeChanges returns a context for the handling of an event. changed reports whether a document was changed with that
// context; it is always false for an event that is not part of a reconciliation.
func observeChanges(ctx context.Context, event Event) (handling context.Context, changed func() bool) {
	if event.Republished == "" {
		return ctx, func() bool { return false }
	}
	marked := new(atomic.Bool)
	return context.WithValue(ctx, changeObserver{}, marked), marked.Load
}

// MarkChanged reports that a document was changed with this context. The state package calls it after each commit.
func MarkChanged(ctx context.Context) {
	if changed, ok := ctx.Value(changeObserver{}).(*atomic.Bool); ok {
		changed.Store(true)
	}
}
