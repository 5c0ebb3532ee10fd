package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	_ "modernc.org/sqlite" // the database/sql driver "sqlite"
)

const (
	// longestQuery bounds a query in bytes, and mostWords its words: more are ignored.
	longestQuery = 800
	mostWords    = 8
	// flushBatch is how many texts change in one transaction. Searches wait for it. A queue of longQueue texts is only there while the index
	// is being built, and nobody searches: then flushLongBatch change at once, which is several times as fast.
	flushBatch     = 128
	longQueue      = 2048
	flushLongBatch = 8192
	// searchers is how many text searches run at a time.
	searchers = 4
	// The matches of queries are cached until a text changes: mostCached queries, with at most mostCachedMatches matches in all.
	mostCached        = 1024
	mostCachedMatches = 500_000
)

// textIndex finds shows by words. SQLite's FTS5, in memory, has the set of rows for each word. Ranking and typos are done here: FTS5
// does not know typos, and its ranking takes several times as long as its search.
//
// A text that changes is queued, and written with others: one transaction for each would take a millisecond or more.
type textIndex struct {
	db      *sql.DB
	find    *sql.Stmt
	replace *sql.Stmt
	remove  *sql.Stmt

	flushing sync.Mutex // one flush at a time
	unmerged bool       // long batches were written since the last merge; guarded by flushing
	// early is a flush that a full queue has begun, while the index is being built: it uses a second processor.
	early    sync.WaitGroup
	hasEarly atomic.Bool

	queueMu sync.Mutex
	queue   map[uint32]text

	// mu keeps searches and the writing of a batch apart: SQLite's readers in memory would otherwise wait for the writer with pauses.
	mu    sync.RWMutex
	texts []text // by row
	words *vocabulary
	// writes grows with each batch.
	writes atomic.Uint64

	cacheMu       sync.Mutex
	cache         map[string][]match
	cachedMatches int
}

// text is what can be searched of a show. The zero value is no text.
type text struct {
	of    *show
	state *Show
	name  string // the folded words of the name, with a space before and after each
	place string // the same of venue and city
}

// match is a show that a query finds. The row may have another show by now: compare of.
type match struct {
	of    *show
	row   uint32
	score int32
}

var databases atomic.Int64

func newTextIndex() (*textIndex, error) {
	// The name makes it a database of its own. It exists until the last connection is closed.
	name := fmt.Sprintf("file:/catalogue-%d?vfs=memdb&_pragma=journal_mode(off)&_pragma=synchronous(off)&_pragma=temp_store(memory)&_pragma=cache_size(-1000)",
		databases.Add(1))
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("open the text index: %w", err)
	}
	db.SetMaxOpenConns(searchers)
	db.SetMaxIdleConns(searchers)
	t := &textIndex{db: db, queue: map[uint32]text{}, words: newVocabulary(), cache: map[string][]match{}}
	if err := t.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("create the text index: %w", err), db.Close())
	}
	return t, nil
}

func (t *textIndex) open() (err error) {
	// The words are folded and separated by spaces already. Their places in the text are not needed (detail=none).
	const create = `CREATE VIRTUAL TABLE texts USING fts5(words, content='', contentless_delete=1, detail=none, prefix='1 2 3', tokenize='ascii')`
	if _, err = t.db.Exec(create); err != nil {
		return err
	}
	if t.find, err = t.db.Prepare(`SELECT group_concat(rowid) FROM texts WHERE texts MATCH ?`); err != nil {
		return err
	}
	if t.replace, err = t.db.Prepare(`INSERT OR REPLACE INTO texts(rowid, words) VALUES (?, ?)`); err != nil {
		return err
	}
	t.remove, err = t.db.Prepare(`DELETE FROM texts WHERE rowid = ?`)
	return err
}

func (t *textIndex) close() error {
	t.early.Wait()
	return t.db.Close()
}

// set queues a row's new text; a nil show removes it.
func (t *textIndex) set(row uint32, of *show, state *Show) {
	t.queueMu.Lock()
	defer t.queueMu.Unlock()
	t.queue[row] = text{of: of, state: state}
	if len(t.queue) < flushLongBatch || t.hasEarly.Swap(true) {
		return
	}
	t.early.Go(func() {
		defer t.hasEarly.Store(false)
		t.flushing.Lock()
		defer t.flushing.Unlock()
		_ = t.writeQueued(context.Background()) // after an error all is queued again, and the next flush returns it
	})
}

// flush writes all that is queued. After the building of the index it also merges what was written: FTS5 would otherwise do it beside later
// writes, which then take ten times as long.
func (t *textIndex) flush(ctx context.Context) error {
	t.flushing.Lock()
	defer t.flushing.Unlock()
	if err := t.writeQueued(ctx); err != nil || !t.unmerged {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.db.ExecContext(ctx, `INSERT INTO texts(texts) VALUES ('optimize')`); err != nil {
		return fmt.Errorf("merge the text index: %w", err)
	}
	t.unmerged = false
	return nil
}

// writeQueued needs t.flushing.
func (t *textIndex) writeQueued(ctx context.Context) error {
	for {
		batch := t.takeBatch()
		if len(batch) == 0 {
			return nil
		}
		if err := t.write(ctx, batch); err != nil {
			t.putBack(batch)
			return fmt.Errorf("write %d texts to the index: %w", len(batch), err)
		}
		t.unmerged = t.unmerged || len(batch) > flushBatch
	}
}

func (t *textIndex) takeBatch() map[uint32]text {
	t.queueMu.Lock()
	defer t.queueMu.Unlock()
	size := flushBatch
	if len(t.queue) >= longQueue {
		size = flushLongBatch
	}
	if len(t.queue) <= size {
		batch := t.queue
		t.queue = map[uint32]text{}
		return batch
	}
	batch := make(map[uint32]text, size)
	for row, queued := range t.queue {
		if len(batch) == size {
			break
		}
		batch[row] = queued
		delete(t.queue, row)
	}
	return batch
}

// putBack queues again what was not written, unless it has changed meanwhile.
func (t *textIndex) putBack(batch map[uint32]text) {
	t.queueMu.Lock()
	defer t.queueMu.Unlock()
	for row, queued := range batch {
		if _, newer := t.queue[row]; !newer {
			t.queue[row] = queued
		}
	}
}

// searchable returns the distinct words of a show's whole text.
func searchable(of *Show) []string {
	words := slices.Concat(wordsOf(of.Name), wordsOf(of.Venue), wordsOf(of.City), wordsOf(of.Category), wordsOf(of.Description))
	slices.Sort(words)
	return slices.Compact(words)
}

func (t *textIndex) write(ctx context.Context, batch map[uint32]text) error {
	words := make(map[uint32][]string, len(batch))
	for row, queued := range batch {
		if queued.of == nil {
			continue
		}
		words[row] = searchable(queued.state)
		queued.name = " " + strings.Join(wordsOf(queued.state.Name), " ") + " "
		queued.place = " " + strings.Join(append(wordsOf(queued.state.Venue), wordsOf(queued.state.City)...), " ") + " "
		batch[row] = queued
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.store(ctx, batch, words); err != nil {
		return err
	}
	for row, written := range batch {
		for int(row) >= len(t.texts) {
			t.texts = append(t.texts, text{})
		}
		if before := t.texts[row].state; before != nil {
			for _, word := range searchable(before) {
				t.words.remove(word)
			}
		}
		for _, word := range words[row] {
			t.words.add(word)
		}
		t.texts[row] = written
	}
	t.writes.Add(1)
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	t.clearCache()
	return nil
}

// store writes a batch in one transaction.
func (t *textIndex) store(ctx context.Context, batch map[uint32]text, words map[uint32][]string) error {
	tx, err := t.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	replace, remove := tx.StmtContext(ctx, t.replace), tx.StmtContext(ctx, t.remove)
	// In the order of the rows: FTS5 would otherwise end a segment with each row.
	for _, row := range slices.Sorted(maps.Keys(batch)) {
		if batch[row].of == nil {
			_, err = remove.ExecContext(ctx, row)
		} else {
			_, err = replace.ExecContext(ctx, row, strings.Join(words[row], " "))
		}
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// alternatives are words of which a text must have one, to match one word of a query.
type alternatives struct {
	words []string
	// prefix: a text that has a word which begins with one of them matches too.
	prefix bool
	// typos: they replace a word that has typos.
	typos bool
}

// parse returns the words of a query: folded, without repeats, and not more than mostWords. Each query is bounded so that none costs much.
func parse(query string) []string {
	words := wordsOf(query)
	var distinct []string
	for _, word := range words {
		if !slices.Contains(distinct, word) && len(distinct) < mostWords {
			distinct = append(distinct, word)
		}
	}
	return distinct
}

// search returns the shows whose texts have all words of the query, each with its rank. The last word may be a prefix. Words that no text
// has are taken as typos; if no text has all words, each may be one. The order of the result has no meaning. writes is of which state of
// the texts the result is.
func (t *textIndex) search(words []string) (found []match, writes uint64, err error) {
	key := strings.Join(words, " ")
	t.mu.RLock()
	defer t.mu.RUnlock()
	writes = t.writes.Load()
	if cached, ok := t.cached(key); ok {
		return cached, writes, nil
	}
	matches, err := t.matches(t.wanted(words, false))
	if err == nil && len(matches) == 0 {
		matches, err = t.matches(t.wanted(words, true))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("search the text index: %w", err)
	}
	t.remember(key, matches)
	return matches, writes, nil
}

// wanted returns the alternatives for each word. Without anyTypo only words that no text has are taken as typos.
func (t *textIndex) wanted(words []string, anyTypo bool) []alternatives {
	wanted := make([]alternatives, len(words))
	for i, word := range words {
		last := i == len(words)-1
		wanted[i] = alternatives{words: []string{word}, prefix: last}
		if !anyTypo && (t.words.has(word) || last && t.words.hasPrefix(word)) {
			continue
		}
		if similar := t.words.similar(word, last); len(similar) > 0 {
			wanted[i] = alternatives{words: similar, typos: true}
		}
	}
	return wanted
}

// matches returns the texts that have one alternative of each.
func (t *textIndex) matches(wanted []alternatives) ([]match, error) {
	var found sql.RawBytes
	rows, err := t.find.Query(expression(wanted))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var matches []match
	rank := newRanking(wanted)
	for rows.Next() {
		if err := rows.Scan(&found); err != nil {
			return nil, err
		}
		for number := range strings.SplitSeq(string(found), ",") {
			row, err := strconv.ParseUint(number, 10, 32)
			if err != nil || int(row) >= len(t.texts) {
				continue // no match at all is ""
			}
			if of := &t.texts[row]; of.of != nil {
				matches = append(matches, match{of.of, uint32(row), rank.score(of)})
			}
		}
	}
	return matches, rows.Err()
}

// expression is a query in the language of FTS5. Words have only letters, digits and marks, so they need no escapes in quotes.
func expression(wanted []alternatives) string {
	var e strings.Builder
	for i, w := range wanted {
		if i > 0 {
			e.WriteString(" AND ")
		}
		e.WriteByte('(')
		for j, word := range w.words {
			if j > 0 {
				e.WriteString(" OR ")
			}
			e.WriteString(`"` + word + `"`)
			if w.prefix {
				e.WriteByte('*')
			}
		}
		e.WriteByte(')')
	}
	return e.String()
}

// ranking has the words of a query as they occur in the texts.
type ranking struct {
	wanted []rankedWord
	whole  string // the name that is the query itself
}

type rankedWord struct {
	complete []string
	begun    []string // with prefix only
	typos    bool
}

func newRanking(wanted []alternatives) ranking {
	r := ranking{whole: " "}
	for _, w := range wanted {
		ranked := rankedWord{typos: w.typos}
		for _, word := range w.words {
			ranked.complete = append(ranked.complete, " "+word+" ")
			if w.prefix {
				ranked.begun = append(ranked.begun, " "+word)
			}
		}
		r.whole += w.words[0] + " "
		r.wanted = append(r.wanted, ranked)
	}
	return r
}

// Points of a word: where it is counts most, and then how it was found. The rest of a text is the category and the description.
const (
	inName, inPlace, inRest = 90, 30, 10
	asWord, asBegun         = 3, 2
	isWholeName, beginsName = 60, 5
)

// score ranks a text that matches: words in the name before words in venue and city before the rest.
func (r ranking) score(of *text) int32 {
	var score int32
	for i, w := range r.wanted {
		how := int32(asWord)
		if w.typos {
			how = 0
		}
		switch {
		case containsAny(of.name, w.complete):
			score += inName + how
		case containsAny(of.name, w.begun):
			score += inName + asBegun
		case containsAny(of.place, w.complete):
			score += inPlace + how
		case containsAny(of.place, w.begun):
			score += inPlace + asBegun
		default:
			score += inRest
		}
		if i == 0 && (beginsWithAny(of.name, w.complete) || beginsWithAny(of.name, w.begun)) {
			score += beginsName
		}
	}
	if of.name == r.whole {
		score += isWholeName
	}
	return score
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

func beginsWithAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.HasPrefix(text, part) {
			return true
		}
	}
	return false
}

func (t *textIndex) cached(key string) ([]match, bool) {
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	matches, ok := t.cache[key]
	return matches, ok
}

// remember caches the matches of a query. t.mu is held for reading, so they are those of the texts as they are.
func (t *textIndex) remember(key string, matches []match) {
	t.cacheMu.Lock()
	defer t.cacheMu.Unlock()
	if len(t.cache) >= mostCached || t.cachedMatches+len(matches) > mostCachedMatches {
		t.clearCache()
	}
	t.cache[strings.Clone(key)] = matches
	t.cachedMatches += len(matches)
}

// clearCache needs t.cacheMu.
func (t *textIndex) clearCache() {
	clear(t.cache)
	t.cachedMatches = 0
}
