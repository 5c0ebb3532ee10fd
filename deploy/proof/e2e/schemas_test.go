package e2e

import (
	"context"
	"errors"
	"fmt"

	"boxoffice/deploy/proof/broker"
	"boxoffice/deploy/proof/event"
)

// validatedPerType bounds the events of a type that are validated in one stack: a load test publishes many alike.
const validatedPerType = 500

// checkSchemas validates what the services have published against the schemas that the gateway serves. Events that tests have made, and those
// of the previous release, name no such schema.
func checkSchemas(s *testStack) error {
	b, err := broker.Open(s.Broker())
	if err != nil {
		return fmt.Errorf("validate the events: %w", err)
	}
	defer b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	events, err := b.Events(ctx, "")
	if err != nil {
		return fmt.Errorf("validate the events: %w", err)
	}
	letters, err := b.DeadLetters(ctx)
	if err != nil {
		return fmt.Errorf("validate the events: %w", err)
	}
	var wrong []error
	validated := map[string]int{}
	for _, message := range append(events, letters...) {
		e, err := event.Read(message.Data)
		if err != nil || !e.NamesSchema() || validated[e.Type] == validatedPerType {
			continue
		}
		validated[e.Type]++
		if err := event.Validate(message.Data); err != nil && len(wrong) < 5 {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}
