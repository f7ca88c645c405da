from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from embedkit.config.load import parse_run
from embedkit.config.overrides import apply_overrides
from embedkit.config.resolve import dump_resolved, load_resolved, resolve, write_resolved
from embedkit.errors import PluginError, UsageError
from embedkit.host import Host


def plan_of(text, registry, *overrides):
    data = tomllib.loads(text)
    apply_overrides(data, overrides)
    return resolve(parse_run(data, where="run.toml"), registry, base=Path(), where="run.toml")


def test_a_run_is_resolved_with_names_and_defaults(run_text, registry):
    plan = plan_of(run_text, registry)
    assert plan.schema.fields["item_id"].role == "key"
    assert plan.schema.fields["history"].column is None
    assert plan.schema.fields["history"].options == {"max_length": 20}
    assert plan.schema.towers["user"].table == "events"
    assert plan.schema.towers["item"].table == "items"
    assert plan.schema.keys == {"items": "item_id", "users": "user_id"}
    # Fields with one default encoder share an instance; each feature has exactly one.
    assert [(part.entry.name, part.fields) for part in plan.model.encoders] == [
        ("embedding", ("item_id", "history")),
        ("number", ("price", "age")),
    ]
    assert plan.config.model.dim == 64
    assert plan.config.model.heads["item"].use == "fake:linear"
    stage = plan.stages[0].config
    assert stage.name == "0"
    assert stage.losses[0].use == "fake:sampled_softmax"
    assert stage.losses[1].name == "info_nce"
    assert stage.streams["ssl"].sampler == "fake:shuffle"
    assert stage.optimizer.use == "fake:adamw"
    assert stage.optimizer.options == {"lr": 1e-3}


def test_a_resolved_run_reads_back_as_itself(run_text, registry, tmp_path):
    plan = plan_of(run_text, registry)
    path = tmp_path / "run.resolved.toml"
    write_resolved(plan, path)
    again = load_resolved(path, registry)
    assert again.model == plan.model
    assert again.config.compute == plan.config.compute
    assert again.base == Path().resolve()
    assert dump_resolved(again) == path.read_text()
    written = tomllib.loads(path.read_text())
    assert written["resolved"]["plugins"]["fake"] == {"distribution": "fake-parts", "version": "0.3"}


def test_a_resolved_run_says_which_plugin_it_needs(run_text, registry, tmp_path):
    path = tmp_path / "run.resolved.toml"
    write_resolved(plan_of(run_text, registry), path)
    with pytest.raises(PluginError, match=r"needs field_type fake:category from fake-parts 0\.3"):
        load_resolved(path, Host.load(discover=False).registry)


def test_explicit_encoders_serve_what_towers_read(run_text, registry):
    plan = plan_of(
        run_text, registry, "model.encoders=[{use='embedding', fields=['item_id','history'], rows=9}]", "towers.item=['item_id']"
    )
    assert [(part.entry.name, part.fields) for part in plan.model.encoders] == [("embedding", ("item_id", "history")), ("number", ("age",))]
    assert plan.model.encoders[0].config.rows == 9


# ruff: noqa: E501 - what is written and what is said about it, side by side
WRONG = {
    "tables.events.join.item_id='itms'": "tables.events.join.item_id: there is no table 'itms'; did you mean 'items'?",
    "tables.items={uri='i'}": "table 'items' has no key",
    "tables.items.join={price='users'}": "only an event table joins others",
    "tables.events.split.valid=7": "tables.events.split.valid: found 7, wanted a duration such as '7d'",
    "tables.events.split={by='hash', test=0.2}": "needs the columns to hash",
    "tables.events={uri='e', user='user_id', join={item_id='items', user_id='users'}, split={by='position', test=1}}": "a split by position needs",
    "fields.price.table='item'": "fields.price.table: there is no table 'item'; did you mean 'items'?",
    "fields.price.type='numbr'": "there is no field_type called 'numbr'; did you mean 'number'?",
    "fields.price.scal='log'": "fields.price.scal: unknown option 'scal' of field type 'number'; did you mean 'scale'?",
    "fields.price.domian='x'": "did you mean 'domain'?",
    "fields.history.domain='history'": "set domain = 'item'",
    "fields.age.role='label'": "field 'age' is a label, which a tower must not see",
    "towers.item=['item_id','prize']": "towers.item: there is no field 'prize'; did you mean 'price'?",
    "towers.item=['item_id','age']": "towers.item: reads the tables items, users",
    "towers.item=[]": "towers.item: has no fields",
    "model.encoders=[{use='embedding', fields=['price']}]": "encoder 'embedding' takes fields of type category, sequence; 'price' is of type number",
    "model.encoders=[{use='embedding', fields=['item_id']}]": "fields 'item_id' and 'history' share domain 'item'",
    "model.encoders=[{use='embedding', fields=['item_id','history']},{use='embedding', fields=['history']}]": "is served by encoder 0 already",
    "model.encoders=[{use='embedding', feilds=[], fields=['item_id','history']}]": "unknown key 'feilds'; did you mean 'fields'?",
    "model.trunks.itm={use='mlp'}": "model.trunks.itm: there is no tower 'itm'; did you mean 'item'?",
    "model.trunk={use='mpl'}": "model.trunk.use: there is no trunk called 'mpl'; did you mean 'mlp'?",
    "stages.0.losses.0.target='itm'": "stages.0.losses.0.target: there is no tower 'itm'; did you mean 'item'?",
    "stages.0.losses.1.views=['a','c']": "stages.0.losses.1.views: there is no view 'c'; there are main, ssl, a, b",
    "stages.0.losses.0.temprature=1": "stages.0.losses.0.temprature: unknown key 'temprature' of loss 'sampled_softmax'; did you mean 'temperature'?",
    "stages.0.losses.0.wieght=1": "stages.0.losses.0.wieght: unknown key 'wieght'; did you mean 'weight'?",
    "stages.0.losses.1.name='sampled_softmax'": "loss 0 is called 'sampled_softmax' too",
    "stages.0.views.0.of='sssl'": "there is no stream or earlier view 'sssl'; did you mean 'ssl'?",
    "stages.0.views.0.makes=['main','b']": "'main' names a stream or another view already",
    "stages.0.streams.ssl.rows='events'": "'events' needs an event table, and 'items' names no user",
    "stages.0.streams.main={table='events', sampler='shufle'}": "stages.0.streams.main.sampler: there is no sampler called 'shufle'",
    "stages.0.optimizer={use='adamw', lrr=1}": "stages.0.optimizer.lrr: unknown key 'lrr' of optimizer 'adamw'; did you mean 'lr'?",
    "stages.0.networks.t={kind='frozen'}": "stages.0.networks.t.bundle: a frozen network needs the folder",
    "evaluate.0.query='usr'": "evaluate.0.query: there is no tower 'usr'; did you mean 'user'?",
    "index={use='hnsw', mm=3}": "index.mm: unknown key 'mm' of index 'hnsw'; did you mean 'm'?",
    "stages.1.use='trian'": "stages.1.use: there is no stage called 'trian'; did you mean 'train'?",
}


@pytest.mark.parametrize("override", WRONG)
def test_what_is_wrong_is_said_with_its_place(override, run_text, registry):
    with pytest.raises(UsageError) as caught:
        plan_of(run_text, registry, override)
    assert WRONG[override] in str(caught.value)
    assert all(line.startswith("run.toml: ") for line in str(caught.value).split("\n"))


def test_several_problems_are_shown_together(run_text, registry):
    with pytest.raises(UsageError) as caught:
        plan_of(run_text, registry, "fields.price.scal='log'", "evaluate.0.query='usr'", "stages.0.optimizer={use='adamv'}")
    assert len(str(caught.value).split("\n")) == 3
