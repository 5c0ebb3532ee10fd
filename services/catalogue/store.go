package main

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"boxoffice/services/internal/clock"
	"boxoffice/services/internal/id"
	"boxoffice/services/internal/identity"
	"boxoffice/services/internal/problem"
	"boxoffice/services/internal/reconcile"
	"boxoffice/services/internal/state"
)

// The documents of shows (those of the read model are in folder feed):
//
//	show/{id}    Show
//	image/{id}   storedImage, the image of one show
//	owner/{user} Owner; the state store deletes it some time after the owner's last announcement, or the deletion of the account
//	index/shows  all shows, oldest first
//	index/owner/{user}  all shows of an owner, oldest first
//	index/recent/shows/{day}  shows that changed on a day, for five days; reconciliation reads them
func showKey(show id.Show) string { return "show/" + string(show) }

func imageKey(image ImageID) string { return "image/" + string(image) }

func ownerKey(user id.User) string { return "owner/" + string(user) }

// keyOfIndexed is the key of a show whose id is an index entry.
func keyOfIndexed(show string) string { return showKey(id.Show(show)) }

// allShows is the index of all shows, and the kind under which changed shows are noted for reconciliation.
const allShows = "shows"

// showsOf is the index of an owner's shows.
func showsOf(owner id.User) string { return "owner/" + string(owner) }

const (
	// showsAtOnce is how many shows of a deleted account are read at once.
	showsAtOnce = 200
	// cancelAtOnce bounds the shows that are cancelled at the same time. They share transactions, and other requests must not wait for
	// long.
	cancelAtOnce = 32
)

// store reads and commits the documents of shows. Each exported method is one decision, or one query.
type store struct {
	documents *state.Store
	clock     clock.Clock
	encoder   *encoder
	images    *images
}

func newStore(documents *state.Store, clock clock.Clock) *store {
	return &store{documents: documents, clock: clock, encoder: newEncoder(), images: newImages(documents)}
}

// Announce makes a show, unless the owner's account was deleted (identity.ErrAccountDeleted). The caller commits the change.
func (s *store) Announce(ctx context.Context, user id.User, details Details) (*state.Change, Show, error) {
	show, err := Announce(id.New[id.Show](), user, details, s.clock())
	if err != nil {
		return nil, Show{}, err
	}
	owner, err := s.owner(ctx, user)
	if err != nil {
		return nil, Show{}, err
	}
	if err := owner.Value.AddShow(); err != nil {
		return nil, Show{}, err
	}
	change := &state.Change{}
	change.PutFor(owner.Key, owner.ETag, owner.Value, identity.DeletedTime)
	change.Insert(showKey(show.ID), show)
	change.Append(allShows, string(show.ID))
	change.Append(showsOf(user), string(show.ID))
	emit(ctx, change, &show)
	return change, show, nil
}

// owner reads an owner's document. It has no ETag if there is none.
func (s *store) owner(ctx context.Context, user id.User) (state.Doc[Owner], error) {
	doc, err := state.Get[Owner](ctx, s.documents, ownerKey(user))
	if errors.Is(err, state.ErrNotFound) {
		return doc, nil
	}
	return doc, err
}

// DeleteOwner refuses all later announcements of a user whose account was deleted, and cancels the shows that have not started. It may be
// repeated: it continues where an earlier call has ended.
func (s *store) DeleteOwner(ctx context.Context, user id.User) error {
	_, err := state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, struct{}, error) {
		owner, err := s.owner(ctx, user)
		if err != nil || !owner.Value.Delete() {
			return nil, struct{}{}, err
		}
		change := &state.Change{}
		change.PutFor(owner.Key, owner.ETag, owner.Value, identity.DeletedTime)
		return change, struct{}{}, nil
	})
	if err != nil {
		return err
	}
	index := showsOf(user)
	if complete, err := reconcile.IsConverted(ctx, s.documents, indexOwners); err != nil {
		return err
	} else if !complete {
		index = allShows // some shows of the previous release are in no other
	}
	for cursor, more := "", true; more; more = cursor != "" {
		var scheduled []Show
		scheduled, cursor, err = state.List(ctx, s.documents, index, showsAtOnce, cursor, keyOfIndexed,
			func(show Show) bool { return show.UserID == user && show.CancelWithAccount(s.clock()) }) // of a copy
		if err != nil {
			return err
		}
		var cancelling errgroup.Group
		cancelling.SetLimit(cancelAtOnce)
		for _, show := range scheduled {
			cancelling.Go(func() error {
				_, err := s.decide(ctx, show.ID, func(show *Show) (bool, error) { return show.CancelWithAccount(s.clock()), nil })
				return err
			})
		}
		if err := cancelling.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// Show reads one show, also a cancelled one. The error is errNoShow if there is none.
func (s *store) Show(ctx context.Context, show id.Show) (Show, error) {
	doc, err := s.get(ctx, show)
	return doc.Value, err
}

func (s *store) get(ctx context.Context, show id.Show) (state.Doc[Show], error) {
	doc, err := state.Get[Show](ctx, s.documents, showKey(show))
	if errors.Is(err, state.ErrNotFound) {
		return doc, errNoShow
	}
	return doc, err
}

// Shows lists all shows, newest first.
func (s *store) Shows(ctx context.Context, limit int, cursor string) ([]Show, string, error) {
	return state.List(ctx, s.documents, allShows, limit, cursor, keyOfIndexed, func(Show) bool { return true })
}

// ShowsOf lists an owner's shows, newest first.
func (s *store) ShowsOf(ctx context.Context, owner id.User, limit int, cursor string) ([]Show, string, error) {
	return state.List(ctx, s.documents, showsOf(owner), limit, cursor, keyOfIndexed, func(Show) bool { return true })
}

// indexOwners is the name of the step of the reconciliation that completes the indexes of owners with shows of the previous release.
const indexOwners = "index owners"

func (s *store) indexOwners() reconcile.Step {
	isOld := func(show Show) bool { return !show.InOwnerIndex }
	return reconcile.Convert(s.documents, indexOwners, allShows, keyOfIndexed, isOld, func(ctx context.Context, old Show) error {
		_, err := state.Modify(ctx, s.documents, showKey(old.ID), func(show *Show, change *state.Change) (bool, error) { return addToOwnerIndex(change, show), nil })
		return err
	})
}

// addToOwnerIndex adds a show's entry in the index of its owner's shows to a change, if it has none.
func addToOwnerIndex(change *state.Change, show *Show) (added bool) {
	if show.InOwnerIndex {
		return false
	}
	show.InOwnerIndex = true
	change.Append(showsOf(show.UserID), string(show.ID))
	return true
}

// EachShow calls each with all shows, some at a time. It may miss shows that are announced after it has begun.
func (s *store) EachShow(ctx context.Context, each func([]Show) error) error {
	return state.Each(ctx, s.documents, allShows, keyOfIndexed, func(docs []state.Doc[Show]) error {
		shows := make([]Show, len(docs))
		for i, doc := range docs {
			shows[i] = doc.Value
		}
		return each(shows)
	})
}

// Update replaces a show's details.
func (s *store) Update(ctx context.Context, show id.Show, owner id.User, expected ExpectedVersion, details Details) (Show, error) {
	return s.decide(ctx, show, func(show *Show) (bool, error) { return show.Update(owner, expected, details, s.clock()) })
}

// Cancel cancels a show.
func (s *store) Cancel(ctx context.Context, show id.Show, owner id.User, expected ExpectedVersion) error {
	_, err := s.decide(ctx, show, func(show *Show) (bool, error) { return show.Cancel(owner, expected, s.clock()) })
	return err
}

// SetImage gives a show the image of an upload. Of a request that will be refused, the upload is not decoded.
func (s *store) SetImage(ctx context.Context, show id.Show, owner id.User, expected ExpectedVersion, upload Upload) (Show, error) {
	current, err := s.Show(ctx, show)
	if err != nil {
		return Show{}, err
	}
	if err := current.checkOwner(owner, expected, s.clock()); err != nil {
		return Show{}, err
	}
	picture, err := s.encoder.Encode(ctx, upload)
	if err != nil {
		return Show{}, err
	}
	image := picture.image(id.New[ImageID]())
	return s.decideImage(ctx, show, func(show *Show, change *state.Change) (bool, error) {
		changed, err := show.SetImage(owner, expected, image, s.clock())
		if changed {
			change.Insert(imageKey(image.ID), storedImage{Schema: imageSchema, ID: image.ID, ShowID: show.ID, JPEG: picture.jpeg})
		}
		return changed, err
	})
}

// RemoveImage removes a show's image.
func (s *store) RemoveImage(ctx context.Context, show id.Show, owner id.User, expected ExpectedVersion) error {
	_, err := s.decideImage(ctx, show, func(show *Show, _ *state.Change) (bool, error) { return show.RemoveImage(owner, expected, s.clock()) })
	return err
}

// Image returns an image of a show as a JPEG. The error is errNoImage if it is not the show's image now.
func (s *store) Image(ctx context.Context, show id.Show, image ImageID) ([]byte, error) {
	if err := s.HasImage(ctx, show, image); err != nil {
		return nil, err
	}
	return s.images.Get(ctx, image)
}

// HasImage returns errNoImage if an image is not the show's now.
func (s *store) HasImage(ctx context.Context, show id.Show, image ImageID) error {
	current, err := s.Show(ctx, show)
	if problem.KindOf(err) == problem.NotFound || err == nil && (current.Image == nil || current.Image.ID != image) {
		return errNoImage
	}
	return err
}

// decide lets a transition change a show, and commits it with its event.
func (s *store) decide(ctx context.Context, show id.Show, transition func(*Show) (changed bool, err error)) (Show, error) {
	return state.Modify(ctx, s.documents, showKey(show), func(show *Show, change *state.Change) (bool, error) {
		if show.ID == "" {
			return false, errNoShow
		}
		changed, err := transition(show)
		if err != nil || !changed {
			return false, err
		}
		addToOwnerIndex(change, show)
		emit(ctx, change, show)
		return true, nil
	})
}

// decideImage is decide for a transition that changes the image. The document of the image that it replaces is deleted with it.
func (s *store) decideImage(ctx context.Context, show id.Show, transition func(*Show, *state.Change) (changed bool, err error)) (Show, error) {
	return state.Decide(ctx, s.documents, func(ctx context.Context) (*state.Change, Show, error) {
		doc, err := s.get(ctx, show)
		if err != nil {
			return nil, Show{}, err
		}
		before := doc.Value.Image
		change := &state.Change{}
		changed, err := transition(&doc.Value, change)
		if err != nil || !changed {
			return nil, doc.Value, err
		}
		if before != nil {
			if err := s.images.delete(ctx, before.ID, change); err != nil {
				return nil, Show{}, err
			}
		}
		addToOwnerIndex(change, &doc.Value)
		change.Update(doc.Key, doc.ETag, doc.Value)
		emit(ctx, change, &doc.Value)
		return change, doc.Value, nil
	})
}

// emit adds a show's event to a change, and notes the show for reconciliation.
func emit(ctx context.Context, change *state.Change, show *Show) {
	change.Emit(ctx, show.Event())
	change.Note(allShows, string(show.ID), show.CreatedAt, show.UpdatedAt)
}
