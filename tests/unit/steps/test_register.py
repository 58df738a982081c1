from tokka.steps.register import mlflow_links, run_link


def test_a_run_is_linked_where_a_ui_is_known():
    assert run_link("https://kubeflow.example.com/", "42") == "https://kubeflow.example.com/#/runs/details/42"
    assert run_link("", "42") == run_link("https://kubeflow.example.com", "") == ""


def test_a_version_is_linked_where_mlflow_is_a_server():
    links = dict(mlflow_links("http://mlflow:5000/", "help", "3", "r1"))
    assert links["This version in MLflow"] == "http://mlflow:5000/#/models/help/versions/3"
    assert mlflow_links("sqlite:////home/mlflow.db", "help", "3", "r1") == []
