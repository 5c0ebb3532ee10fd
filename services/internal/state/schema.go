package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"boxoffice/services/internal/problem"
)

// Every document says in its member "schema" which format it is in. Formats are numbered from 1. A type whose format
// has changed is an Upgrader, and its old documents become new ones as they are read; on disk they do with their next
// change. A document in a format that is newer than its reader knows was written by a newer release of the service,
// which runs beside this one while it is rolled out: it is refused, for to change it without knowing all of it would
// lose what is new. See "To change a document's format" in services/README.md.

// Upgrader is a document type that has been in more formats than the first. Its methods are on the pointer.
type Upgrader interface {
	// Newest is the newest format that can be read. It is a constant of the type.
	Newest() int
	// Upgrade brings a document that was read in the given format to the one that this release writes, its member
	// "schema" included. From the release's own format on there is nothing to do.
	Upgrade(from int) error
}

// errNewer marks a document in a format that this process does not know.
var errNewer = errors.New("it was written by a newer release")

// unmarshal reads a document. It returns a problem.Unavailable if the document is in a newer format than T knows.
func unmarshal[T any](key string, value []byte, into *T) error {
	from, err := schemaOf(value)
	if err != nil {
		return fmt.Errorf("document %s is not readable: %w", key, err)
	}
	newest := 1
	upgrader, changes := any(into).(Upgrader)
	if changes {
		newest = upgrader.Newest()
	}
	if from > newest {
		return problem.New(problem.Unavailable, "The service is being updated, and this is ahead of it. Try again shortly.").
			WithRetryAfter(5 * time.Second).
			Because(fmt.Errorf("document %s has schema %d, this process knows up to %d: %w", key, from, newest, errNewer))
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("document %s is not readable: %w", key, err)
	}
	if changes {
		if err := upgrader.Upgrade(from); err != nil {
			return fmt.Errorf("upgrade document %s from schema %d: %w", key, from, err)
		}
	}
	return nil
}

// schemaOf is the number of a document's format; one without a number is in the first. Documents begin with it as they
// are written here, so that it can be read without the rest.
func schemaOf(value []byte) (int, error) {
	if rest, found := bytes.CutPrefix(value, []byte(`{"schema":`)); found && len(rest) > 1 && '1' <= rest[0] && rest[0] <= '9' && rest[1] == ',' {
		return int(rest[0] - '0'), nil
	}
	var document struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(value, &document); err != nil {
		return 0, err
	}
	if document.Schema < 0 {
		return 0, fmt.Errorf("its schema is %d", document.Schema)
	}
	return max(document.Schema, 1), nil
}
