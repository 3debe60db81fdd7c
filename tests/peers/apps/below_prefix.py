"""Apps that are not told where they live but by `X-Forwarded-Prefix`: Flask with ProxyFix, and FastAPI as it comes.

    python3 below_prefix.py flask|fastapi PORT
"""

import sys


def flask_app():
    import flask
    from werkzeug.middleware.proxy_fix import ProxyFix

    app = flask.Flask("below")
    app.secret_key = "a key of a test"
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    @app.get("/old")
    def old():
        return flask.redirect(flask.url_for("items"))

    @app.get("/items/")
    def items():
        flask.session["seen"] = "items"
        return {"link": flask.url_for("old"), "absolute": flask.url_for("old", _external=True)}

    @app.get("/seen")
    def seen():
        return {"seen": flask.session.get("seen")}

    return app


def fastapi_app():
    import fastapi
    import fastapi.responses

    app = fastapi.FastAPI()

    @app.get("/items/")
    def items(response: fastapi.Response):
        response.set_cookie("theme", "dark", path="/items")
        return {"items": [1, 2, 3]}

    @app.get("/moved")
    def moved():
        return fastapi.responses.RedirectResponse("/items/", status_code=303)

    return app


if __name__ == "__main__":
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "flask":
        from werkzeug.serving import run_simple

        run_simple("127.0.0.1", port, flask_app(), threaded=True)
    else:
        import uvicorn

        uvicorn.run(fastapi_app(), host="127.0.0.1", port=port, log_level="warning")
