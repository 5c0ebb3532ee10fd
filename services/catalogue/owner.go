package main

import "boxoffice/services/internal/identity"

// ownerSchema is the format of the owners that this release writes.
const ownerSchema = 1

// Owner shows whether the account of somebody who announces shows was deleted. Each announcement writes the owner's document in its own
// transaction, on the condition of its ETag, and so does the deletion. So of an announcement and a deletion at the same moment, in any
// processes, either the announcement is refused, or the deletion finds the show.
type Owner struct {
	Schema  int  `json:"schema"`
	Deleted bool `json:"deleted,omitempty"` // the account was deleted; its tokens may still be valid for a time
}

// AddShow adds the owner's new show. It refuses a deleted account (identity.ErrAccountDeleted).
func (o *Owner) AddShow() error {
	if o.Deleted {
		return identity.ErrAccountDeleted
	}
	o.Schema = ownerSchema
	return nil
}

// Delete makes all later announcements of the owner fail.
func (o *Owner) Delete() (changed bool) {
	if o.Deleted {
		return false
	}
	*o = Owner{Schema: ownerSchema, Deleted: true}
	return true
}
