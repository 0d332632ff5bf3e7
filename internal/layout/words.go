package layout

import (
	"regexp"
	"slices"
	"strings"
)

// The words that say what kind of export a file is. They are taken from the ends
// of a name, and folders that are nothing else are ignored.
var kindWords = map[string]bool{
	"full": true, "fulls": true, "inc": true, "incs": true, "incr": true, "incremental": true, "incrementals": true,
	"increment": true, "increments": true, "diff": true, "diffs": true, "differential": true, "from": true, "to": true,
}

// A label of nothing but these says nothing of an image.
var genericWords = map[string]bool{
	"base": true, "initial": true, "backup": true, "backups": true, "bak": true, "bkp": true, "export": true, "exports": true,
	"dump": true, "snap": true, "snaps": true, "snapshot": true, "snapshots": true, "image": true, "img": true, "raw": true,
	"rbd": true, "head": true, "latest": true, "last": true, "current": true, "daily": true, "weekly": true, "monthly": true,
	"hourly": true, "utc": true, "gmt": true, "now": true,
}

var weekdays = map[string]bool{
	"mon": true, "tue": true, "wed": true, "thu": true, "fri": true, "sat": true, "sun": true, "monday": true, "tuesday": true,
	"wednesday": true, "thursday": true, "friday": true, "saturday": true, "sunday": true,
}

// The words of names that scripts give to one snapshot after the other.
var usedAgain = map[string]bool{
	"last": true, "latest": true, "dummy": true, "backup": true, "bak": true, "current": true, "previous": true, "prev": true,
	"old": true, "new": true, "tmp": true, "temp": true, "today": true, "yesterday": true, "hourly": true, "daily": true,
	"weekly": true, "monthly": true, "nightly": true, "now": true, "lastbackup": true, "rbdbackup": true, "replica": true,
	"mirror": true, "snap": true, "snapshot": true, "auto": true, "rbd": true, "export": true, "sync": true,
}

// UsedAgain tells whether a snapshot's name is nothing but words that scripts use
// again and again.
func UsedAgain(name string) bool {
	tokens := tokensOf(name)
	return len(tokens) > 0 && only(tokens, usedAgain)
}

// IsWeekday tells whether a snapshot's name is a day of the week.
func IsWeekday(name string) bool { return weekdays[strings.ToLower(name)] }

// only tells whether all words are in one of some sets.
func only(words []string, sets ...map[string]bool) bool {
	return !slices.ContainsFunc(words, func(w string) bool {
		return !slices.ContainsFunc(sets, func(set map[string]bool) bool { return set[w] })
	})
}

// A folder of nothing but these and a date is one of backups.
var backupWords = map[string]bool{
	"backup": true, "backups": true, "bak": true, "bkp": true, "export": true, "exports": true, "dump": true, "snap": true,
	"snaps": true, "snapshot": true, "snapshots": true, "daily": true, "weekly": true, "monthly": true, "hourly": true, "utc": true,
}

func onlyKind(tokens []string) bool { return only(tokens, kindWords) }

func onlyBackup(tokens []string) bool { return only(tokens, backupWords, kindWords) }

// namesBackup tells whether a name is words as "snap" and numbers: not an image's.
func namesBackup(name string) bool {
	tokens := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r < 0x80 && (isSeparator(byte(r)) || isDigit(byte(r))) })
	return len(tokens) > 0 && onlyBackup(tokens)
}

func isKindWord(s string) bool { return kindWords[strings.ToLower(s)] }

func generic(tokens []string) bool { return only(tokens, genericWords, weekdays, kindWords) }

// counter tells whether a name only numbers files, as 001 or a.
func counter(tokens []string) bool {
	for _, t := range tokens {
		if len(t) > 1 && strings.Trim(t, "0123456789") != "" {
			return false
		}
	}
	return true
}

// cutWords takes the words that say the kind of an export from the ends of a
// name, and what separates them.
func cutWords(s string) (rest string, taken bool) {
	for {
		s = trimSeparators(s)
		end := len(s)
		for end > 0 && !isSeparator(s[end-1]) {
			end--
		}
		start := strings.IndexAny(s, separators+cutMark)
		switch {
		case isKindWord(s[end:]) && end > 0:
			s, taken = s[:end], true
		case start > 0 && isKindWord(s[:start]):
			s, taken = s[start:], true
		default:
			return inside(s), taken
		}
	}
}

// inside marks where something was taken from the middle of a name: vm-s1-1 without
// s1 isn't the image vm-1.
func inside(s string) string {
	parts := strings.Split(s, cutMark)
	parts = slices.DeleteFunc(parts, func(p string) bool { return trimSeparators(p) == "" })
	for i, p := range parts {
		if i > 0 {
			p = strings.TrimLeft(p, separators)
		}
		if i < len(parts)-1 {
			p = strings.TrimRight(p, separators)
		}
		parts[i] = p
	}
	return strings.Join(parts, "~")
}

const (
	datePattern = `(19|20)\d\d[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])`
	timePattern = `([Tt_. :-]?([01]\d|2[0-3])[-_.:hH]?[0-5]\d([-_.:mM]?[0-5]\d([.,]\d+)?)?([Zz]|[+-]\d\d:?\d\d)?)?`
	dayFirst    = `(0[1-9]|[12]\d|3[01])[-_.](0[1-9]|1[0-2])[-_.](19|20)\d\d`
	weekPattern = `(19|20)\d\d-?[Ww][0-5]\d(-[1-7])?`
	monthOnly   = `(19|20)\d\d-(0[1-9]|1[0-2])`
)

// onlyDate tells whether a name is a date, and words that say nothing of an image.
func onlyDate(name string) bool {
	rest := cutDates(name)
	return rest != name && generic(tokensOf(rest))
}

// cutTime takes the time from what follows a date, unless it is another date.
func cutTime(after string) string {
	if dateNext.MatchString(after) {
		return after
	}
	return after[len(timeAfter.FindString(after)):]
}

var (
	dateNext  = regexp.MustCompile(`^[^0-9A-Za-z]*(` + datePattern + `|` + dayFirst + `)`)
	dates     = regexp.MustCompile(datePattern + timePattern + `|` + dayFirst + timePattern + `|` + weekPattern + `|` + monthOnly)
	timeAfter = regexp.MustCompile(`^` + timePattern + `([-_.@]|$)`)
)

// cutDates replaces dates, with a time or without. Numbers that look like one in
// the middle of a longer word, as in a UUID, stay.
func cutDates(s string) string {
	if !strings.Contains(s, "19") && !strings.Contains(s, "20") {
		return s // no year, and most names have none
	}
	for at := 0; at < len(s); {
		found := dates.FindStringIndex(s[at:])
		if found == nil {
			break
		}
		from, to := at+found[0], at+found[1]
		if !datePrefix(s[:from]) || to < len(s) && (isDigit(s[to]) || isLetter(s[to])) {
			at = from + 1
			continue
		}
		s = s[:from] + cutMark + s[to:]
		at = from + 1
	}
	return s
}

// datePrefix tells whether a date may follow: a separator, or a word that isn't
// hexadecimal.
func datePrefix(s string) bool {
	word := lastRun(s)
	return word == "" || strings.IndexFunc(word, func(r rune) bool { return r < 0x80 && isDigit(byte(r)) }) < 0 &&
		strings.Trim(strings.ToLower(word), "abcdef") != ""
}

// lastRun is what letters and digits s ends with.
func lastRun(s string) string {
	at := len(s)
	for at > 0 && (isDigit(s[at-1]) || isLetter(s[at-1])) {
		at--
	}
	return s[at:]
}

// HasDate tells whether a name has a date in it, so that it isn't used again.
func HasDate(name string) bool { return cutDates(name) != name }

// dateFolders is how many folders, from the first one on, are a year, a month and
// a day.
func dateFolders(comps []string) int {
	n := 0
	for i, is := range []*regexp.Regexp{yearFolder, monthFolder, dayFolder} {
		if i == len(comps) || !is.MatchString(comps[i]) {
			break
		}
		n++
	}
	return n
}

var (
	yearFolder  = regexp.MustCompile(`^(19|20)\d\d$`)
	monthFolder = regexp.MustCompile(`^(0?[1-9]|1[0-2])$`)
	dayFolder   = regexp.MustCompile(`^(0?[1-9]|[12]\d|3[01])$`)
)
