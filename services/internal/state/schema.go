package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"boxoffice/services/internal/problem"
)

// The member "schema" of every document is the number of its format, from 1. A type whose format has changed implements
// Upgrader: its old documents are converted when they are read, and in the store with their next change. A document in a newer
// format than this release can read was written by a newer release, which runs at the same time during a rollout. It is
// refused, because a change by this release would lose its new members. See "To change a document's format" in README.md.

// Upgrader is a document type with more than one format. Its methods are on the pointer.
type Upgrader interface {
	// Newest returns the newest format that can be read. It is a constant of the type.
	Newest() int
	// Upgrade converts a document that was read in the given format to the format that this release writes, with its member
	// "schema". If the document has this release's format or a newer one, it does nothing.
	Upgrade(from int) error
}

// errNewer is the error of a document in a format that this process cannot read.
var errNewer = errors.New("it was written by a newer release")

// unmarshal decodes a document. The error is a problem.Unavailable if the document's format is newer than T can read.
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
		return problem.New(problem.Unavailable, "unavailable", "The service is being updated, and this is ahead of it. Nothing was changed: send the same request again.").
			WithRetryAfter(5 * time.Second).
			Because(fmt.Errorf("document %s has schema %d, this process reads up to %d: %w", key, from, newest, errNewer))
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

// schemaOf returns the number of a document's format; without a number it is the first. Documents that this package writes begin
// with the number, so that it can be read without the rest.
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
