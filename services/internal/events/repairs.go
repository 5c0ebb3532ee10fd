package events

import (
	"context"
	"sync/atomic"
)

// A reconciliation publishes events again that everybody should have handled before. A handler that changes a document
// because of one shows that something was missing: a repair. Handlers do not say so themselves; the state package reports
// each change that it commits, and the router looks whether there was one while it handled such an event.

type changeObserver struct{}

// observeChanges returns a context for the handling of an event, and a function that says whether something was changed
// with it, if the event is one of a reconciliation.
func observeChanges(ctx context.Context, event Event) (handling context.Context, applied func() bool) {
	if event.Republished == "" {
		return ctx, func() bool { return false }
	}
	changed := new(atomic.Bool)
	return context.WithValue(ctx, changeObserver{}, changed), changed.Load
}

// MarkChanged reports that a document was changed with this context. The state package calls it after each commit.
func MarkChanged(ctx context.Context) {
	if changed, ok := ctx.Value(changeObserver{}).(*atomic.Bool); ok {
		changed.Store(true)
	}
}
