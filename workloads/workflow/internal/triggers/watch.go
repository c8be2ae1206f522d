// SPDX-License-Identifier: Apache-2.0

package triggers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
)

const (
	// saveEvery is the interval at which the position is stored. After a crash, later changes are handled again, and their keys return
	// the existing runs.
	saveEvery = time.Second
	listPage  = 500
	// watchSeconds is the timeout of a watch.
	watchSeconds = int64(300)
)

// kindWatch is the watch of one kind.
type kindWatch struct {
	*watches
	kind    string
	restart chan struct{}

	triggers map[id]source
	cursors  map[id]int64 // the version up to which each trigger has handled events
	position int64        // the version up to which all triggers have handled events
	saved    int64
	seen     time.Time // when the position was last stored
}

// errRestart means that the triggers changed and the watch must restart.
var errRestart = errors.New("the triggers changed")

// run watches while there are triggers.
func (k *kindWatch) run(ctx context.Context) {
	for pause := firstPause; ctx.Err() == nil; {
		k.triggers = k.ofKind(k.kind)
		if len(k.triggers) == 0 {
			if err := k.dropCursors(ctx); err == nil {
				select {
				case <-ctx.Done():
				case <-k.restart:
				}
				continue
			}
		}
		err := k.follow(ctx, func() {
			pause = firstPause
			for of := range k.triggers {
				k.setState(of, true, "")
			}
		})
		if errSave := k.save(context.WithoutCancel(ctx)); errSave != nil {
			k.options.Log.WarnContext(ctx, "could not save the position of a watch; will retry", "kind", k.kind, "error", errSave)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil || errors.Is(err, errRestart) { // the API server closes watches regularly
			continue
		}
		for of := range k.triggers {
			k.setState(of, false, fmt.Sprintf("watch %s: %v", k.kind, err))
		}
		k.options.Log.WarnContext(ctx, "a trigger lost its watch; will reconnect", "kind", k.kind, "error", err, "in", pause)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, lastPause)
	}
}

func (k *kindWatch) resource() dynamic.ResourceInterface {
	return k.client.Resource(kinds[k.kind]).Namespace(k.options.Namespace)
}

// follow watches once. It returns nil when the API server closes the watch regularly.
func (k *kindWatch) follow(ctx context.Context, good func()) error {
	if err := k.begin(ctx); err != nil {
		return err
	}
	timeout := watchSeconds
	w, err := k.resource().Watch(ctx, metav1.ListOptions{ResourceVersion: strconv.FormatInt(k.position, 10), AllowWatchBookmarks: true, TimeoutSeconds: &timeout})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return k.catchUp(ctx)
	}
	if err != nil {
		return err
	}
	defer w.Stop()
	good()
	ticker := time.NewTicker(saveEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.restart:
			return errRestart
		case <-ticker.C:
			if err := k.save(ctx); err != nil {
				k.options.Log.WarnContext(ctx, "could not save the position of a watch; will retry", "kind", k.kind, "error", err)
			}
		case e, open := <-w.ResultChan():
			if !open {
				return nil
			}
			if e.Type == watch.Error {
				if err := apierrors.FromObject(e.Object); !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
					return err
				}
				return k.catchUp(ctx)
			}
			if err := k.event(ctx, e); err != nil {
				return err
			}
		}
	}
}

// begin finds the cursor of each trigger. Objects from before a trigger was created start no runs.
func (k *kindWatch) begin(ctx context.Context) error {
	if err := k.readCursors(ctx); err != nil {
		return err
	}
	var fresh []source
	for of, s := range k.triggers {
		if _, known := k.cursors[of]; !known {
			fresh = append(fresh, s)
		}
	}
	if len(fresh) > 0 {
		list, err := k.resource().List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil {
			return err
		}
		now, err := version(list)
		if err != nil {
			return err
		}
		for _, s := range fresh {
			if err := k.putCursor(ctx, s, now); err != nil {
				return err
			}
			k.cursors[s.id] = now
		}
	}
	k.position = 0
	for _, at := range k.cursors {
		if k.position == 0 || at < k.position {
			k.position = at
		}
	}
	k.saved = k.position
	return nil
}

// version returns the resource version as a number, which API servers increase.
func version(o interface{ GetResourceVersion() string }) (int64, error) {
	n, err := strconv.ParseInt(o.GetResourceVersion(), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resource version %q is not a number", o.GetResourceVersion())
	}
	return n, nil
}

func (k *kindWatch) event(ctx context.Context, e watch.Event) error {
	object, ok := e.Object.(*unstructured.Unstructured)
	if !ok {
		return fmt.Errorf("the API server sent a %T", e.Object)
	}
	at, err := version(object)
	if err != nil {
		return err
	}
	if e.Type != watch.Bookmark {
		names := map[watch.EventType]string{watch.Added: "Added", watch.Modified: "Modified", watch.Deleted: "Deleted"}
		if err := k.change(ctx, names[e.Type], object, at); err != nil {
			return err
		}
	}
	k.position = max(k.position, at)
	return nil
}

// change starts the runs of one change, and returns when they are durable.
func (k *kindWatch) change(ctx context.Context, kind string, object *unstructured.Unstructured, at int64) error {
	object.SetManagedFields(nil)
	body := map[string]any{"type": kind, "object": object.Object}
	length := size(body)
	for of, s := range k.triggers {
		if at <= k.cursors[of] || at <= k.position {
			continue
		}
		if length > s.maxPayload {
			k.options.Launcher.Reject(of.workflow, of.trigger)
			continue
		}
		// An edit or deletion of a workflow restarts this watch, and not only its event.
		if _, err := k.fireUnless(ctx, of, event{body: body, key: fmt.Sprintf("%s/%d/%s", object.GetUID(), at, kind)}); err != nil {
			return err
		}
	}
	return nil
}

// fireUnless is fire, until the triggers change.
func (k *kindWatch) fireUnless(ctx context.Context, of id, c event) (bool, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	type answer struct {
		ok  bool
		err error
	}
	done := make(chan answer, 1)
	go func() {
		ok, err := k.fire(ctx, of, c)
		done <- answer{ok, err}
	}()
	select {
	case a := <-done:
		return a.ok, a.err
	case <-k.restart:
		stop(errRestart)
		if a := <-done; a.err == nil { // it has just succeeded
			notify(k.restart)
			return a.ok, nil
		}
		return false, errRestart
	}
}

// catchUp handles the changes since a position that has expired in the API server, from a list of the objects. It cannot find
// objects that were deleted in the meantime.
func (k *kindWatch) catchUp(ctx context.Context) error {
	k.options.Log.WarnContext(ctx, "the position of a watch has expired in the API server; deletions since then start no runs", "kind", k.kind)
	options := metav1.ListOptions{Limit: listPage}
	for {
		list, err := k.resource().List(ctx, options)
		if err != nil {
			return err
		}
		for i := range list.Items {
			object := &list.Items[i]
			at, err := version(object)
			if err != nil {
				return err
			}
			kind := "Modified"
			if !object.GetCreationTimestamp().Time.Before(k.seen.Truncate(time.Second)) {
				kind = "Added"
			}
			if err := k.change(ctx, kind, object, at); err != nil {
				return err
			}
		}
		if options.Continue = list.GetContinue(); options.Continue != "" {
			continue
		}
		at, err := version(list)
		k.position = max(k.position, at)
		return err
	}
}
